//! The source of the crate as the tests of this folder see it: every file of `src/` without its tests.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use proc_macro2::{TokenStream, TokenTree};
use quote::ToTokens as _;
use syn::{Item, UseTree};

/// A module path below the crate: `["guest", "gate", "token"]`.
pub type Module = Vec<String>;

/// One file of `src/`, without what is compiled for tests only.
pub struct SourceFile {
    /// The path below `src/`.
    pub path: String,
    /// Every path that the file names, absolute: from `use` declarations and from code that writes
    /// `crate::…`, `self::…` or `super::…`. Paths into other crates begin with the crate's name.
    pub paths: BTreeSet<Vec<String>>,
    /// Every identifier that the file's code contains.
    pub identifiers: BTreeSet<String>,
    /// The types that the file declares.
    pub types: BTreeSet<String>,
}

/// Every file of `src/` that is not only for tests.
pub static FILES: LazyLock<BTreeMap<Module, SourceFile>> = LazyLock::new(read);

fn read() -> BTreeMap<Module, SourceFile> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut paths = Vec::new();
    collect(&root, &mut paths);
    let modules: BTreeSet<Module> = paths.iter().map(|path| module_of(&root, path)).collect();
    paths
        .iter()
        .map(|path| {
            let module = module_of(&root, path);
            let file = parse(&root, path, &module, &modules);
            (module, file)
        })
        .collect()
}

/// Returns the longest beginning of `path` that is a file of `src/`.
pub fn file_of<'m>(
    path: &'m [String],
    files: &BTreeMap<Module, SourceFile>,
) -> Option<&'m [String]> {
    (1..=path.len())
        .rev()
        .map(|length| &path[..length])
        .find(|module| files.contains_key(*module))
}

fn collect(directory: &Path, paths: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let stem = path.file_stem().unwrap().to_str().unwrap();
        if ["tests", "testing", "fuzzing"].contains(&stem) {
            continue;
        }
        if path.is_dir() {
            collect(&path, paths);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            paths.push(path);
        }
    }
}

/// The crate's own file, `lib.rs`, is the empty path.
fn module_of(root: &Path, path: &Path) -> Module {
    let below = path.strip_prefix(root).unwrap().with_extension("");
    let mut module: Module = below
        .iter()
        .map(|part| part.to_str().unwrap().to_string())
        .collect();
    if matches!(module.last().map(String::as_str), Some("mod" | "lib")) {
        module.pop();
    }
    module
}

fn parse(root: &Path, path: &Path, module: &Module, modules: &BTreeSet<Module>) -> SourceFile {
    let text = std::fs::read_to_string(path).unwrap();
    let parsed = syn::parse_file(&text).unwrap_or_else(|error| panic!("{path:?}: {error}"));
    let mut file = SourceFile {
        path: path.strip_prefix(root).unwrap().display().to_string(),
        paths: BTreeSet::new(),
        identifiers: BTreeSet::new(),
        types: BTreeSet::new(),
    };
    let resolver = Resolver { module, modules };
    read_items(parsed.items, &resolver, &mut file);
    file
}

fn read_items(items: Vec<Item>, resolver: &Resolver<'_>, file: &mut SourceFile) {
    for item in items.into_iter().filter(|item| !is_for_tests(item)) {
        let mut declared = None;
        match &item {
            Item::Use(item) => {
                let mut paths = Vec::new();
                flatten(&item.tree, &mut Vec::new(), &mut paths);
                let absolute = paths.into_iter().map(|path| resolver.absolute(path));
                file.paths.extend(absolute);
                continue;
            }
            // The declaration of a file of its own.
            Item::Mod(item) if item.content.is_none() => continue,
            Item::Struct(item) => declared = Some(&item.ident),
            Item::Enum(item) => declared = Some(&item.ident),
            Item::Trait(item) => declared = Some(&item.ident),
            Item::Type(item) => declared = Some(&item.ident),
            _ => {}
        }
        file.types.extend(declared.map(ToString::to_string));
        read_tokens(item.into_token_stream(), resolver, file);
    }
}

/// Reads identifiers, and the paths that begin with `crate`, `self` or `super`, macro arguments
/// included.
fn read_tokens(tokens: TokenStream, resolver: &Resolver<'_>, file: &mut SourceFile) {
    let mut path: Vec<String> = Vec::new();
    let mut colons = 0;
    let finish = |path: &mut Vec<String>, paths: &mut BTreeSet<Vec<String>>| {
        let is_path = path
            .first()
            .is_some_and(|first| matches!(first.as_str(), "crate" | "self" | "super"));
        if is_path && path.len() > 1 {
            paths.insert(resolver.absolute(std::mem::take(path)));
        }
        path.clear();
    };
    for token in tokens {
        match token {
            TokenTree::Ident(ident) => {
                let ident = ident.to_string();
                file.identifiers.insert(ident.clone());
                if colons != 2 {
                    finish(&mut path, &mut file.paths);
                }
                path.push(ident);
                colons = 0;
            }
            TokenTree::Punct(punct) if punct.as_char() == ':' && !path.is_empty() => colons += 1,
            TokenTree::Group(group) => {
                finish(&mut path, &mut file.paths);
                colons = 0;
                read_tokens(group.stream(), resolver, file);
            }
            TokenTree::Punct(_) | TokenTree::Literal(_) => {
                finish(&mut path, &mut file.paths);
                colons = 0;
            }
        }
    }
    finish(&mut path, &mut file.paths);
}

fn is_for_tests(item: &Item) -> bool {
    let attributes = match item {
        Item::Const(item) => &item.attrs,
        Item::Enum(item) => &item.attrs,
        Item::Fn(item) => &item.attrs,
        Item::Impl(item) => &item.attrs,
        Item::Mod(item) => &item.attrs,
        Item::Static(item) => &item.attrs,
        Item::Struct(item) => &item.attrs,
        Item::Trait(item) => &item.attrs,
        Item::Type(item) => &item.attrs,
        Item::Use(item) => &item.attrs,
        _ => return false,
    };
    attributes.iter().any(|attribute| {
        attribute.path().is_ident("cfg")
            && attribute.to_token_stream().to_string().replace(' ', "") == "#[cfg(test)]"
    })
}

fn flatten(tree: &UseTree, above: &mut Vec<String>, paths: &mut Vec<Vec<String>>) {
    let leaf = |name: String| -> Vec<String> {
        let mut path = above.clone();
        if name != "self" || path.is_empty() {
            path.push(name);
        }
        path
    };
    match tree {
        UseTree::Name(name) => paths.push(leaf(name.ident.to_string())),
        UseTree::Rename(rename) => paths.push(leaf(rename.ident.to_string())),
        UseTree::Glob(_) => paths.push(above.clone()),
        UseTree::Group(group) => group
            .items
            .iter()
            .for_each(|tree| flatten(tree, above, paths)),
        UseTree::Path(path) => {
            above.push(path.ident.to_string());
            flatten(&path.tree, above, paths);
            above.pop();
        }
    }
}

/// Makes paths absolute.
struct Resolver<'f> {
    module: &'f Module,
    modules: &'f BTreeSet<Module>,
}

impl Resolver<'_> {
    fn absolute(&self, path: Vec<String>) -> Vec<String> {
        let mut base = self.module.clone();
        let mut rest = path.as_slice();
        match path.first().map(String::as_str) {
            Some("crate") => return path[1..].to_vec(),
            Some("self" | "super") => {
                while let Some(("self" | "super", after)) = rest
                    .split_first()
                    .map(|(first, after)| (first.as_str(), after))
                {
                    if rest[0] == "super" {
                        base.pop();
                    }
                    rest = after;
                }
            }
            // A child module, or another crate.
            Some(first) => {
                let child: Module = base.iter().cloned().chain([first.to_string()]).collect();
                if !self.modules.contains(&child) {
                    return path;
                }
            }
            None => {}
        }
        base.extend_from_slice(rest);
        base
    }
}
