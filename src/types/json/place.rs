//! The reader's position in a document, and the first fault that it found.

use std::cell::{Cell, RefCell};

use serde::de;

use super::words::{Mismatch, ReadError, shorten};
use super::{Fault, FaultKind};

/// The position and the fault that all readers of one document share.
#[derive(Debug, Default)]
pub(super) struct Place {
    path: RefCell<Path>,
    mismatch: RefCell<Option<Fault>>,
    /// Entries of arrays that may still come.
    n_entries_left: Cell<usize>,
}

#[derive(Debug, Default)]
struct Path {
    steps: Vec<Step>,
    /// The names of all steps, one after the other: a name costs no allocation of its own.
    names: String,
}

#[derive(Debug)]
enum Step {
    Entry(usize),
    /// The start of its name in `names`.
    Field(usize),
}

impl Place {
    pub(super) fn new(max_entries: usize) -> Self {
        Self { n_entries_left: Cell::new(max_entries), ..Self::default() }
    }

    /// Returns the number of steps of the path.
    pub(super) fn depth(&self) -> usize {
        self.path.borrow().steps.len()
    }

    /// Moves back up to `depth`. A reader that fails does not call it, so that the path then leads to the fault.
    pub(super) fn back_to(&self, depth: usize) {
        let Path { steps, names } = &mut *self.path.borrow_mut();
        for step in steps.drain(depth.min(steps.len())..).rev() {
            if let Step::Field(start) = step {
                names.truncate(start);
            }
        }
    }

    pub(super) fn enter_field(&self, name: &str) {
        let Path { steps, names } = &mut *self.path.borrow_mut();
        steps.push(Step::Field(names.len()));
        names.push_str(name);
    }

    pub(super) fn enter_entry(&self, idx: usize) {
        self.path.borrow_mut().steps.push(Step::Entry(idx));
    }

    /// Counts an entry; true if there is room for it.
    pub(super) fn count_entry(&self) -> bool {
        let n_left = self.n_entries_left.get().checked_sub(1);
        self.n_entries_left.set(n_left.unwrap_or_default());
        n_left.is_some()
    }

    /// Keeps the fault here and returns an error of the reader below, which can't carry it.
    pub(super) fn lower<E: de::Error>(&self, error: ReadError<E>) -> E {
        let Mismatch { kind, detail, field } = match error {
            ReadError::Inner(error) => return error,
            ReadError::Mismatch(mismatch) => mismatch,
        };
        let path = self.path.borrow().render(field.as_deref().unwrap_or_default());
        self.mismatch.borrow_mut().get_or_insert(Fault { kind, detail, path });
        E::custom("")
    }

    pub(super) fn too_many<E>() -> ReadError<E> {
        let detail = format!("found more than {} entries in arrays", super::MAX_ENTRIES);
        ReadError::Mismatch(Mismatch { kind: FaultKind::Size, detail, field: None })
    }

    /// Returns the path to where the reader stopped, and the fault that it found.
    pub(super) fn into_parts(self) -> (String, Option<Fault>) {
        (self.path.into_inner().render(""), self.mismatch.into_inner())
    }
}

impl Path {
    /// Renders the path, with one more field at its end unless its name is empty.
    fn render(&self, last: &str) -> String {
        let starts = self.steps.iter().filter_map(|step| match step {
            Step::Entry(_) => None,
            Step::Field(start) => Some(*start),
        });
        let mut ends = starts.skip(1).chain([self.names.len()]);
        let mut path = String::new();
        for step in &self.steps {
            match step {
                Step::Entry(idx) => path.push_str(&format!("[{idx}]")),
                Step::Field(start) => {
                    let end = ends.next().unwrap_or(*start);
                    push_field(&mut path, self.names.get(*start..end).unwrap_or_default());
                }
            }
        }
        push_field(&mut path, last);
        path
    }
}

fn push_field(path: &mut String, name: &str) {
    if !path.is_empty() && !name.is_empty() {
        path.push('.');
    }
    path.push_str(&shorten(name));
}
