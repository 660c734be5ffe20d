//! The surface columns that a bundle's heads read: computed where a text is tokenized, and kept beside its embedding.

use std::sync::Arc;

use crate::surface::{Lexical, N_STYLE, PieceStyle, buckets, style};

/// The pieces of a vocabulary, and the blocks of columns to compute.
#[derive(Debug)]
pub(super) struct SurfaceColumns {
    /// The style of every piece, ascending by its id.
    pieces: Vec<(u32, PieceStyle)>,
    has_style: bool,
    lexical: Option<Lexical>,
}

impl SurfaceColumns {
    /// Creates columns of no block.
    pub(super) fn new(mut pieces: Vec<(u32, PieceStyle)>) -> Self {
        pieces.sort_by_key(|&(id, _)| id);
        Self { pieces, has_style: false, lexical: None }
    }

    pub(super) fn turn_on(&mut self, has_style: bool, lexical: Option<Lexical>) {
        self.has_style = has_style;
        self.lexical = lexical;
    }

    /// Returns the columns of a text from the ids of its tokens.
    pub(super) fn of(&self, ids: &[u32]) -> Arc<[f32]> {
        let style = self.has_style.then(|| self.style(ids));
        let lexical = self.lexical.as_ref().map(|lexical| lexical.columns(&buckets(ids)));
        style.into_iter().flatten().chain(lexical.into_iter().flatten()).collect()
    }

    /// Returns the style of a text, shape `[N_STYLE]`.
    pub(super) fn style(&self, ids: &[u32]) -> [f32; N_STYLE] {
        // Every count goes over the pieces anew, which are looked up once.
        let pieces: Vec<&PieceStyle> = ids.iter().filter_map(|&id| self.piece(id)).collect();
        style(pieces.iter().copied())
    }

    /// Returns the style of a piece; its id is its position in a vocabulary without gaps.
    fn piece(&self, id: u32) -> Option<&PieceStyle> {
        let found = self.pieces.get(id as usize).filter(|&&(at, _)| at == id);
        let search = || self.pieces.binary_search_by_key(&id, |&(at, _)| at).ok().map(|at| &self.pieces[at]);
        found.or_else(search).map(|(_, style)| style)
    }

    pub(super) fn lexical(&self) -> Option<&Lexical> {
        self.lexical.as_ref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_piece_is_found_by_its_id_whatever_gaps_the_vocabulary_has() {
        let texts = ["you", "!", "?", "maybe"];
        let ids = [4_000_000_000, 0, 1, 7];
        let piece = |(&id, text): (&u32, &str)| (id, PieceStyle::of(text, true));
        let columns = SurfaceColumns::new(ids.iter().zip(texts).map(piece).collect());
        for (id, text) in ids.iter().zip(texts) {
            assert_eq!(columns.piece(*id), Some(&PieceStyle::of(text, true)), "{id}");
        }
        assert_eq!([2, 3, 8, u32::MAX].map(|id| columns.piece(id)), [None; 4]);
    }
}
