//! The surface columns that a bundle's heads read: computed where a text is tokenized, and kept beside its embedding.

use std::sync::Arc;

use crate::surface::{Lexical, N_STYLE, PieceStyle, buckets, style};

/// The pieces of a vocabulary, and the blocks of columns to compute.
#[derive(Debug)]
pub(super) struct SurfaceColumns {
    /// The style of every piece, by its id.
    pieces: Vec<PieceStyle>,
    has_style: bool,
    lexical: Option<Lexical>,
}

impl SurfaceColumns {
    /// Creates columns of no block; `pieces` are ids with the text of the piece, and whether it starts a word.
    pub(super) fn new(pieces: impl Iterator<Item = (u32, PieceStyle)>) -> Self {
        let mut by_id = Vec::new();
        for (id, piece) in pieces {
            let id = id as usize;
            if by_id.len() <= id {
                by_id.resize(id + 1, PieceStyle::default());
            }
            by_id[id] = piece;
        }
        Self { pieces: by_id, has_style: false, lexical: None }
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
        style(ids.iter().filter_map(|&id| self.pieces.get(id as usize)))
    }

    pub(super) fn lexical(&self) -> Option<&Lexical> {
        self.lexical.as_ref()
    }
}
