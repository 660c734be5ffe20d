//! An id of a request names one response: one text to one prompt. Feedback by id could not tell two apart.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use super::judge::Item;
use crate::types::Error;

/// Ids looked up without a pause on an async thread, at about 0.1 us each.
const IDS_AT_ONCE: usize = 2048;

/// Refuses the first id that named another response before. `at` is the path of a response, by item and response.
///
/// The same response may come again under its id. An empty id names nothing: templates send it where they have none.
///
/// # Errors
/// `Invalid`, with the path of the second id.
pub(super) async fn check_ids(
    items: &[Item],
    ids: &[Vec<Option<String>>],
    at: impl Fn(usize, usize) -> String,
) -> Result<(), Error> {
    let mut first: HashMap<&str, (usize, usize)> = HashMap::new();
    for (item, ids) in ids.iter().enumerate() {
        for (response, id) in ids.iter().enumerate() {
            let Some(id) = id.as_deref().filter(|id| !id.is_empty()) else { continue };
            let (other_item, other) = match first.entry(id) {
                Entry::Occupied(entry) => *entry.get(),
                Entry::Vacant(entry) => {
                    entry.insert((item, response));
                    if first.len().is_multiple_of(IDS_AT_ONCE) {
                        tokio::task::yield_now().await;
                    }
                    continue;
                }
            };
            let differs = if items[item].responses[response] != items[other_item].responses[other] {
                "text"
            } else if item != other_item && items[item].prompt != items[other_item].prompt {
                "prompt"
            } else {
                continue;
            };
            let detail = format!(
                "found the id of {} again with another {differs}, expected one response under an id",
                at(other_item, other)
            );
            return Err(Error::invalid_field(format!("{}.id", at(item, response)), detail));
        }
    }
    Ok(())
}
