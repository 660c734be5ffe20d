//! Token batches to embeddings: padding, the encoder's graph, pooling.

use std::path::Path;
use std::sync::Arc;

use ndarray::{Array2, ArrayViewD, Axis, Ix2, Ix3};
use ort::session::{Session, SessionInputValue};
use ort::value::Tensor;

use super::graph::GraphError;
use super::manifest::{EncoderSection, Pooling};
use super::runtime::Runtime;
use crate::types::{Embedding, Encode, EncodeError, Tokens};

const INPUT_IDS: &str = "input_ids";
const ATTENTION_MASK: &str = "attention_mask";
const TOKEN_TYPE_IDS: &str = "token_type_ids";

/// One session of the encoder, for one model thread.
#[derive(Debug)]
pub struct Encoder {
    session: Session,
    output: String,
    pooling: Pooling,
    normalize: bool,
    has_type_ids: bool,
    /// True if texts may share a run of the graph.
    may_batch: bool,
}

/// Share of its largest component by which an embedding may change with its batch: rounding of 16 bits is below,
/// dynamic quantization, whose scale is that of the whole batch, far above (.1 for int8, 0 for fp32).
const ROUNDING: f32 = 0.01;

impl Encoder {
    /// Opens the graph and checks its inputs and the output that the manifest names.
    ///
    /// # Errors
    /// When the graph can't be opened or has other inputs or outputs.
    pub fn open(runtime: &Runtime, dir: &Path, section: &EncoderSection) -> Result<Self, GraphError> {
        let session = runtime.open_encoder(&dir.join(&section.graph.file)).map_err(GraphError::Open)?;
        let inputs: Vec<&str> = session.inputs().iter().map(|input| input.name()).collect();
        let is_known = |name: &&str| [INPUT_IDS, ATTENTION_MASK, TOKEN_TYPE_IDS].contains(name);
        if !inputs.contains(&INPUT_IDS) || !inputs.contains(&ATTENTION_MASK) || !inputs.iter().all(is_known) {
            let expected = format!("{INPUT_IDS}, {ATTENTION_MASK} and perhaps {TOKEN_TYPE_IDS}");
            return Err(GraphError::Inputs { found: inputs.join(", "), expected });
        }
        let outputs: Vec<&str> = session.outputs().iter().map(|output| output.name()).collect();
        if !outputs.contains(&section.output.as_str()) {
            return Err(GraphError::Outputs { found: outputs.join(", "), expected: section.output.clone() });
        }
        Ok(Self {
            has_type_ids: inputs.contains(&TOKEN_TYPE_IDS),
            output: section.output.clone(),
            pooling: section.pooling,
            normalize: section.normalize,
            may_batch: true,
            session,
        })
    }

    /// Runs texts, at least one, alone and together, and shares no batch from then on if that changes an embedding.
    /// Returns the number of components of an embedding: H.
    ///
    /// # Errors
    /// As [`Encode::encode`].
    pub fn warm_up(&mut self, texts: &[Tokens]) -> Result<usize, EncodeError> {
        let together = self.run(&texts.iter().collect::<Vec<_>>())?;
        let mut alone = Vec::with_capacity(texts.len());
        for text in texts {
            alone.extend(self.run(&[text])?);
        }
        self.may_batch = together.iter().zip(&alone).all(|(together, alone)| is_same(together, alone));
        Ok(alone.first().map_or(0, |embedding| embedding.len()))
    }

    /// True if texts may share a run: with others, each has the embedding that it has alone.
    #[must_use]
    pub fn may_batch(&self) -> bool {
        self.may_batch
    }

    fn run(&mut self, batch: &[&Tokens]) -> Result<Vec<Embedding>, EncodeError> {
        let longest = batch.iter().map(|text| text.ids.len()).max().unwrap_or_default();
        let padded = |row: fn(&Tokens) -> &[u32]| {
            let mut matrix = Array2::<i64>::zeros((batch.len(), longest));
            for (mut cells, text) in matrix.outer_iter_mut().zip(batch) {
                cells.iter_mut().zip(row(text)).for_each(|(cell, &id)| *cell = i64::from(id));
            }
            matrix
        };
        let mut mask = Array2::<i64>::zeros((batch.len(), longest));
        for (mut cells, text) in mask.outer_iter_mut().zip(batch) {
            cells.iter_mut().take(text.ids.len()).for_each(|cell| *cell = 1);
        }
        let mut inputs = vec![
            (INPUT_IDS, SessionInputValue::from(Tensor::from_array(padded(|text| &text.ids))?)),
            (ATTENTION_MASK, Tensor::from_array(mask)?.into()),
        ];
        if self.has_type_ids {
            inputs.push((TOKEN_TYPE_IDS, Tensor::from_array(padded(|text| &text.type_ids))?.into()));
        }
        let outputs = self.session.run(inputs)?;
        let output = outputs[self.output.as_str()].try_extract_array::<f32>()?;
        let lengths: Vec<usize> = batch.iter().map(|text| text.ids.len()).collect();
        pool(output, &lengths, self.pooling)?.into_iter().map(|row| finish(row, self.normalize)).collect()
    }
}

impl Encode for Encoder {
    fn encode(&mut self, batch: &[&Tokens]) -> Result<Vec<Embedding>, EncodeError> {
        if self.may_batch {
            return self.run(batch);
        }
        let mut embeddings = Vec::with_capacity(batch.len());
        for text in batch {
            embeddings.extend(self.run(&[text])?);
        }
        Ok(embeddings)
    }
}

fn is_same(a: &[f32], b: &[f32]) -> bool {
    let largest = a.iter().fold(0.0_f32, |largest, x| largest.max(x.abs()));
    a.iter().zip(b).all(|(x, y)| (x - y).abs() <= ROUNDING * largest)
}

impl<T> From<ort::Error<T>> for EncodeError {
    fn from(error: ort::Error<T>) -> Self {
        Self::Runtime(Arc::from(error.to_string()))
    }
}

fn pool(
    output: ArrayViewD<'_, f32>,
    lengths: &[usize],
    pooling: Pooling,
) -> Result<Vec<Vec<f32>>, EncodeError> {
    let shape: Vec<i64> = output.shape().iter().map(|&n| n as i64).collect();
    let wrong = |expected| EncodeError::Shape { found: shape.clone(), expected };
    if output.ndim() == 2 {
        let rows = output.into_dimensionality::<Ix2>().map_err(|_| wrong("[B, H]"))?;
        return if rows.nrows() == lengths.len() {
            Ok(rows.outer_iter().map(|row| row.to_vec()).collect())
        } else {
            Err(wrong("one row per text"))
        };
    }
    let states = output.into_dimensionality::<Ix3>().map_err(|_| wrong("[B, T, H] or [B, H]"))?;
    if states.len_of(Axis(0)) != lengths.len() || lengths.iter().any(|&n| n > states.len_of(Axis(1))) {
        return Err(wrong("one state per token"));
    }
    let text = |(states, &n): (ndarray::ArrayView2<'_, f32>, &usize)| match pooling {
        Pooling::Cls => states.row(0).to_vec(),
        Pooling::Last => states.row(n - 1).to_vec(),
        Pooling::Mean => {
            let sums = states.slice_axis(Axis(0), (..n).into()).sum_axis(Axis(0));
            sums.iter().map(|sum| sum / n as f32).collect()
        }
    };
    Ok(states.outer_iter().zip(lengths).map(text).collect())
}

fn finish(mut row: Vec<f32>, normalize: bool) -> Result<Embedding, EncodeError> {
    if normalize {
        let norm = row.iter().map(|x| x * x).sum::<f32>().sqrt().max(f32::MIN_POSITIVE);
        row.iter_mut().for_each(|x| *x /= norm);
    }
    if row.iter().all(|x| x.is_finite()) { Ok(row.into()) } else { Err(EncodeError::NotFinite) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::Array3;

    fn states() -> Array3<f32> {
        Array3::from_shape_vec((1, 3, 2), vec![1.0, 2.0, 3.0, 6.0, 90.0, 90.0]).unwrap()
    }

    fn check(pooling: Pooling, expected: [f32; 2]) {
        let pooled = pool(states().view().into_dyn(), &[2], pooling).unwrap();
        assert_eq!(pooled, [expected]);
    }

    #[test]
    fn pooling_sees_the_text_and_not_its_padding() {
        check(Pooling::Mean, [2.0, 4.0]);
        check(Pooling::Cls, [1.0, 2.0]);
        check(Pooling::Last, [3.0, 6.0]);
    }

    #[test]
    fn sentence_embeddings_are_taken_as_they_are() {
        let rows = Array2::from_shape_vec((1, 2), vec![3.0_f32, 4.0]).unwrap();
        let pooled = pool(rows.view().into_dyn(), &[5], Pooling::Mean).unwrap();
        assert_eq!(*finish(pooled[0].clone(), false).unwrap(), [3.0, 4.0]);
        assert_eq!(*finish(pooled[0].clone(), true).unwrap(), [0.6, 0.8]);
    }

    #[test]
    fn an_embedding_that_is_not_finite_is_an_error() {
        assert_eq!(finish(vec![f32::NAN, 1.0], true), Err(EncodeError::NotFinite));
        assert_eq!(finish(vec![f32::INFINITY], false), Err(EncodeError::NotFinite));
    }
}
