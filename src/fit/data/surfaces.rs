//! The surface of every text on disk: its style, its lexical buckets, and the columns that are made of these.

use std::io;

use rayon::prelude::*;

use super::records::Records;
use crate::surface::{Lexical, N_STYLE};

/// Texts projected at once.
const BLOCK: usize = 4096;

/// Styles and lexical buckets of texts, by number.
#[derive(Debug)]
pub struct Surfaces {
    styles: Records,
    buckets: Records,
    /// The lexical columns of every text; none before [`Self::project`].
    lexical: Option<(Records, usize)>,
    /// The least and the largest value of every style column that heads read.
    style_ranges: Vec<[f32; 2]>,
}

impl Surfaces {
    /// Creates an empty store.
    ///
    /// # Errors
    /// When there is no place for temporary files.
    pub fn new() -> io::Result<Self> {
        Ok(Self {
            styles: Records::new()?,
            buckets: Records::new()?,
            lexical: None,
            style_ranges: vec![[f32::NEG_INFINITY, f32::INFINITY]; N_STYLE],
        })
    }

    /// Appends a text; texts are numbered from 0.
    ///
    /// # Errors
    /// When the disk is full.
    pub fn push(&mut self, style: &[f32; N_STYLE], buckets: &[u32]) -> io::Result<()> {
        self.styles.push(&style.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>())?;
        self.buckets.push(&buckets.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>())
    }

    /// Makes the lexical columns of every text by a table, in the place of those of another.
    ///
    /// # Errors
    /// When the temporary files can't be read or written.
    pub fn project(&mut self, table: &Lexical) -> io::Result<()> {
        let mut projected = Records::new()?;
        let all: Vec<u32> = (0..self.buckets.len() as u32).collect();
        for block in all.chunks(BLOCK) {
            let bytes = |&text: &u32| -> io::Result<Vec<u8>> {
                Ok(table.columns(&self.buckets(text)?).iter().flat_map(|x| x.to_le_bytes()).collect())
            };
            let rows: Vec<_> = block.par_iter().map(bytes).collect();
            rows.into_iter().try_for_each(|row| projected.push(&row?))?;
        }
        self.lexical = Some((projected, table.n_columns()));
        Ok(())
    }

    /// Clamps styles to these ranges, as a bundle does, shape `[N_STYLE]`.
    pub fn clamp_styles(&mut self, ranges: &[[f32; 2]]) {
        self.style_ranges = ranges.to_vec();
    }

    /// Returns the buckets of a text.
    pub(in crate::fit) fn buckets(&self, text: u32) -> io::Result<Vec<u32>> {
        Ok(self
            .buckets
            .get(text as usize)?
            .as_chunks()
            .0
            .iter()
            .map(|&four| u32::from_le_bytes(four))
            .collect())
    }

    /// Reads the style of a text, within the ranges.
    pub(super) fn read_style(&self, text: u32, style: &mut [f32]) -> io::Result<()> {
        read(&self.styles, text, style)?;
        for (x, [low, high]) in style.iter_mut().zip(&self.style_ranges) {
            *x = x.max(*low).min(*high);
        }
        Ok(())
    }

    /// Reads the lexical columns of a text; zeros before [`Self::project`].
    pub(in crate::fit) fn read_lexical(&self, text: u32, columns: &mut [f32]) -> io::Result<()> {
        self.lexical.as_ref().map_or(Ok(()), |(records, _)| read(records, text, columns))
    }

    /// Returns the number of lexical columns: P, 0 before [`Self::project`].
    #[must_use]
    pub fn n_lexical(&self) -> usize {
        self.lexical.as_ref().map_or(0, |(_, n_columns)| *n_columns)
    }
}

fn read(records: &Records, text: u32, columns: &mut [f32]) -> io::Result<()> {
    let bytes = records.get(text as usize)?;
    columns.iter_mut().zip(bytes.as_chunks().0).for_each(|(x, &four)| *x = f32::from_le_bytes(four));
    Ok(())
}
