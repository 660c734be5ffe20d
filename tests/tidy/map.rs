//! ARCHITECTURE.md's code map is the house: each room, on its floor, in the words of its module.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use crate::{floor, root};

/// The rooms below a folder by their path from `src`, each with the first sentence of its module's doc.
fn rooms(dir: &Path, found: &mut BTreeMap<String, String>) {
    for path in fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_dir()) {
        // A folder without `mod.rs` holds the tests of the file beside it.
        if let Ok(text) = fs::read_to_string(path.join("mod.rs")) {
            let doc: Vec<&str> = text.lines().map_while(|line| line.strip_prefix("//!")).collect();
            let doc = doc.join(" ").split_whitespace().collect::<Vec<_>>().join(" ");
            let end = doc.find(". ").map_or(doc.len(), |end| end + 1);
            let room = path.strip_prefix(root().join("src")).unwrap().to_str().unwrap();
            found.insert(format!("{room}/"), doc[..end].to_owned());
        }
        rooms(&path, found);
    }
}

#[test]
fn the_map_has_every_room_on_its_floor_in_its_modules_words() {
    let map = fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    let mut expected = BTreeMap::new();
    rooms(&root().join("src"), &mut expected);
    let mut found = BTreeMap::new();
    for line in map.lines() {
        let cells: Vec<&str> = line.split(" | ").map(str::trim).collect();
        let &[here, room, what, ..] = cells.as_slice() else { continue };
        let Some(room) = room.strip_prefix('`').and_then(|room| room.strip_suffix('`')) else { continue };
        let here: u8 = here.trim_start_matches('|').trim().parse().unwrap();
        assert_eq!(here, floor(room.split('/').next().unwrap()), "the floor of {room}");
        found.insert(room.to_owned(), what.trim_end_matches('|').trim().to_owned());
    }
    let names = |rooms: &BTreeMap<String, String>| rooms.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&found), names(&expected), "rooms of the map, and folders below src");
    for (room, sentence) in expected {
        let what = &found[&room];
        assert!(what.starts_with(&sentence), "{room}: found \"{what}\", expected \"{sentence}\" first");
    }
}
