//! Checks that an id of a request names one text to one prompt: feedback by id could not tell two apart.

use std::collections::HashMap;
use std::sync::Arc;

use super::items::Item;
use super::text_error::{Part, Paths};
use crate::types::Error;

/// Ids looked up without a pause on an async thread, at about 0.1 us each.
const IDS_AT_ONCE: usize = 2048;

/// Refuses the first id that named another response before; `paths` say where it is.
///
/// The same response may come again under its id. An empty id names nothing: templates send it where they have none.
///
/// # Errors
/// `Invalid`, with the path of the second id.
pub async fn check_ids(items: &[Item], paths: Paths) -> Result<(), Error> {
    if places(items).filter(|(item, response)| id(items, *item, *response).is_some()).nth(1).is_none() {
        return Ok(());
    }
    let prompts = numbered(items.iter().map(|item| &item.prompt));
    let mut first: HashMap<&str, (usize, usize)> = HashMap::new();
    for (n_seen, (item, response)) in places(items).enumerate() {
        if n_seen % IDS_AT_ONCE == IDS_AT_ONCE - 1 {
            tokio::task::yield_now().await;
        }
        let Some(id) = id(items, item, response) else { continue };
        let (other_item, other) = *first.entry(id).or_insert((item, response));
        let differs = if items[item].responses[response] != items[other_item].responses[other] {
            "text"
        } else if prompts[item] != prompts[other_item] {
            "prompt"
        } else {
            continue;
        };
        let at = |item, response| paths.of(item, Part::Response(response));
        let detail = format!(
            "found the id of {} again with another {differs}, expected one response under an id",
            at(other_item, other)
        );
        return Err(Error::invalid_field(format!("{}.id", at(item, response)), detail));
    }
    Ok(())
}

/// Yields the places of ids: the index of an item, and of a response in it.
fn places(items: &[Item]) -> impl Iterator<Item = (usize, usize)> {
    let responses = |(idx, item): (usize, &Item)| (0..item.ids.len()).map(move |response| (idx, response));
    items.iter().enumerate().flat_map(responses)
}

fn id(items: &[Item], item: usize, response: usize) -> Option<&str> {
    items[item].ids[response].as_deref().filter(|id| !id.is_empty())
}

/// Numbers the texts, equal ones alike: long prompts are compared once, and not for each of their responses.
fn numbered<'a>(texts: impl Iterator<Item = &'a Arc<str>>) -> Vec<usize> {
    let mut numbers = HashMap::new();
    let number = |text: &'a Arc<str>| {
        let next = numbers.len();
        *numbers.entry(&**text).or_insert(next)
    };
    texts.map(number).collect()
}
