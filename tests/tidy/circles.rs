//! No file needs another one that needs it back. A module and what is below it belong together, and are no two files here.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use syn::{Item, UseTree};

use crate::{root, walk};

/// A module, as the names that lead to it.
type Module = Vec<String>;

fn modules() -> BTreeMap<Module, syn::File> {
    let (src, mut files) = (root().join("src"), Vec::new());
    walk(&src, &mut files);
    let module = |path: std::path::PathBuf| {
        let relative = path.strip_prefix(&src).unwrap().with_extension("");
        let names = relative.iter().map(|name| name.to_str().unwrap().to_owned());
        let names = names.filter(|name| name != "mod" && name != "lib").collect();
        (names, syn::parse_file(&fs::read_to_string(&path).unwrap()).unwrap())
    };
    let is_of_tests = |module: &Module| module.last().is_some_and(|name| name == "tests");
    files.into_iter().map(module).filter(|(module, _)| !is_of_tests(module)).collect()
}

/// The paths that a `use` names.
fn paths(tree: &UseTree, before: &[String]) -> Vec<Module> {
    let with = |name: &syn::Ident| [before, &[name.to_string()]].concat();
    match tree {
        UseTree::Path(path) => paths(&path.tree, &with(&path.ident)),
        UseTree::Group(group) => group.items.iter().flat_map(|item| paths(item, before)).collect(),
        UseTree::Name(name) => vec![with(&name.ident)],
        UseTree::Rename(name) => vec![with(&name.ident)],
        UseTree::Glob(_) => vec![before.to_vec()],
    }
}

/// The path from the crate's root on; none for one of another crate.
fn absolute(path: &[String], here: &[String]) -> Option<Module> {
    let n_up = path.iter().take_while(|name| *name == "super").count();
    match path.first()?.as_str() {
        "crate" => Some(path[1..].to_vec()),
        "self" => Some([here, &path[1..]].concat()),
        "super" => Some([&here[..here.len() - n_up], &path[n_up..]].concat()),
        _ => None,
    }
}

/// Which files each file names, but for those above and below it.
fn needs() -> BTreeMap<Module, BTreeSet<Module>> {
    let modules = modules();
    let needed = |here: &Module, item: &Item| -> Vec<Module> {
        let Item::Use(item) = item else { return Vec::new() };
        let named = paths(&item.tree, &[]).into_iter().filter_map(|path| absolute(&path, here));
        let file = |path: Module| {
            (1..=path.len()).rev().map(|n| path[..n].to_vec()).find(|part| modules.contains_key(part))
        };
        named.filter_map(file).filter(|there| !there.starts_with(here) && !here.starts_with(there)).collect()
    };
    let of = |(here, file): (&Module, &syn::File)| {
        (here.clone(), file.items.iter().flat_map(|item| needed(here, item)).collect())
    };
    modules.iter().map(of).collect()
}

/// Follows what files need, and ends with the way back to one that is on the way already.
fn circle(
    here: &Module,
    needs: &BTreeMap<Module, BTreeSet<Module>>,
    way: &mut Vec<Module>,
    done: &mut BTreeSet<Module>,
) -> Option<Vec<Module>> {
    if let Some(start) = way.iter().position(|module| module == here) {
        return Some(way[start..].to_vec());
    }
    if !done.insert(here.clone()) {
        return None;
    }
    way.push(here.clone());
    let found = needs[here].iter().find_map(|there| circle(there, needs, way, done));
    way.pop();
    found
}

#[test]
fn no_file_needs_one_that_needs_it_back() {
    let (needs, mut done) = (needs(), BTreeSet::new());
    assert!(needs.values().map(BTreeSet::len).sum::<usize>() > 200, "uses are found");
    for module in needs.keys() {
        let found = circle(module, &needs, &mut Vec::new(), &mut done);
        assert!(found.is_none(), "{found:?} need one another");
    }
}
