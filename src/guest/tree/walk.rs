//! The walk from the top of the tree to a node, and the listings on the way.

use std::borrow::Cow;

use super::category::{Focus, Kind};
use super::content::{ContentType, TreeContent};
use super::top::TOP;
use crate::guest::path::{Segments, Version};
use crate::instance::Overrides;
use crate::instance::events::overrides::PathOverride;

/// A walk through the tables of one version, with what the instance's overrides set and hide.
#[derive(Clone, Copy)]
pub(super) struct Walk<'a> {
    pub(super) version: Version,
    /// `None` when there are none. Then no path below has to be built.
    pub(super) overrides: Option<&'a Overrides>,
}

/// A node of the tree.
pub(super) struct TreeNode<'a> {
    /// The kind in the tables; `None` in a directory that only overrides created.
    pub(super) kind: Option<&'static Kind>,
    /// The path below the version, built only when there are overrides.
    pub(super) path: String,
    /// What the tables read there.
    pub(super) focus: Focus<'a>,
}

/// A name in a directory.
struct NamedNode<'a> {
    name: Cow<'a, str>,
    listed: Option<String>,
    node: TreeNode<'a>,
}

impl<'a> Walk<'a> {
    /// Returns what is at the path `rest` below a node; `None` is 404.
    pub(super) fn resolve(
        self,
        node: TreeNode<'a>,
        mut rest: Segments<'_>,
    ) -> Option<TreeContent<'a>> {
        match self.override_of(&node.path) {
            PathOverride::Hidden => return None,
            PathOverride::Set(text) => {
                return rest
                    .is_empty()
                    .then(|| node.focus.text(Cow::Borrowed(text)));
            }
            PathOverride::NotOverridden => {}
        }
        let Some(name) = rest.next() else {
            return self.value(&node);
        };
        let name = name?;
        match (self.overrides, node.kind) {
            // The rows of a table are constants: one is found without a list of all.
            (None, Some(Kind::Directory(table))) => {
                let row = table.binary_search_by(|category| category.name.cmp(&name));
                let category = &table[row.ok()?];
                self.version.has(category.since).then_some(())?;
                let kind = Some(&category.kind);
                self.resolve(TreeNode { kind, ..node }, rest)
            }
            _ => {
                let mut children = self.children(&node).into_iter();
                let child = children.find(|child| child.name == name)?;
                self.resolve(child.node, rest)
            }
        }
    }

    /// Returns the value of a leaf, or the listing of a directory that is not empty.
    fn value(self, node: &TreeNode<'a>) -> Option<TreeContent<'a>> {
        let focus = node.focus;
        match node.kind {
            Some(Kind::Leaf(read)) => read(focus).map(|text| focus.text(text)),
            Some(Kind::Dated(read)) => read(focus).map(|(text, last_modified)| TreeContent {
                last_modified,
                ..focus.text(text)
            }),
            Some(Kind::Octets(read)) => read(focus).map(|bytes| TreeContent {
                bytes: Cow::Owned(bytes),
                content_type: ContentType::Octets,
                last_modified: focus.state.changed,
            }),
            Some(Kind::Directory(_) | Kind::Each(..)) | None => {
                let listing = self.list(node);
                (!listing.is_empty()).then(|| focus.text(Cow::Owned(listing.join("\n"))))
            }
        }
    }

    /// Returns the lines of a listing: names in byte order, directories with a slash.
    fn list(self, node: &TreeNode<'a>) -> Vec<String> {
        let mut children = self.children(node);
        children.retain(|child| self.exists(&child.node));
        children.sort_by(|one, other| one.name.cmp(&other.name));
        let line = |child: NamedNode<'a>| {
            let is_leaf = self.is_leaf(&child.node);
            child
                .listed
                .unwrap_or_else(|| format!("{}{}", child.name, if is_leaf { "" } else { "/" }))
        };
        children.into_iter().map(line).collect()
    }

    /// Returns every name in a directory, also those with nothing below them; none for a leaf.
    fn children(self, node: &TreeNode<'a>) -> Vec<NamedNode<'a>> {
        let at = |name: &str, kind, focus| TreeNode {
            kind,
            path: self.join(&node.path, name),
            focus,
        };
        let mut children: Vec<NamedNode<'a>> = match node.kind {
            Some(Kind::Directory(table)) => table
                .iter()
                .filter(|category| self.version.has(category.since))
                .map(|category| NamedNode {
                    name: Cow::Borrowed(category.name),
                    listed: None,
                    node: at(category.name, Some(&category.kind), node.focus),
                })
                .collect(),
            Some(Kind::Each(children, kind)) => children(node.focus)
                .into_iter()
                .map(|child| NamedNode {
                    node: at(&child.name, Some(*kind), child.focus),
                    name: child.name,
                    listed: child.listed,
                })
                .collect(),
            Some(Kind::Leaf(_) | Kind::Dated(_) | Kind::Octets(_)) => return Vec::new(),
            None => Vec::new(),
        };
        // After those of the tables, which win when names are equal.
        for name in self
            .overrides
            .into_iter()
            .flat_map(|overrides| overrides.below(&node.path))
        {
            if !children.iter().any(|child| child.name == name) {
                let node = at(name, None, node.focus);
                children.push(NamedNode {
                    name: Cow::Borrowed(name),
                    listed: None,
                    node,
                });
            }
        }
        children
    }

    fn exists(self, node: &TreeNode<'a>) -> bool {
        match self.override_of(&node.path) {
            PathOverride::Hidden => false,
            PathOverride::Set(_) => true,
            PathOverride::NotOverridden => match node.kind {
                Some(Kind::Leaf(read)) => read(node.focus).is_some(),
                Some(Kind::Dated(read)) => read(node.focus).is_some(),
                Some(Kind::Octets(read)) => read(node.focus).is_some(),
                Some(Kind::Directory(_) | Kind::Each(..)) | None => self
                    .children(node)
                    .iter()
                    .any(|child| self.exists(&child.node)),
            },
        }
    }

    fn is_leaf(self, node: &TreeNode<'a>) -> bool {
        matches!(self.override_of(&node.path), PathOverride::Set(_))
            || matches!(
                node.kind,
                Some(Kind::Leaf(_) | Kind::Dated(_) | Kind::Octets(_))
            )
    }

    fn override_of(self, path: &str) -> PathOverride<'a> {
        self.overrides
            .map_or(PathOverride::NotOverridden, |overrides| overrides.of(path))
    }

    fn join(self, path: &str, name: &str) -> String {
        match self.overrides {
            None => String::new(),
            Some(_) if path.is_empty() => name.to_string(),
            Some(_) => format!("{path}/{name}"),
        }
    }

    /// Returns the listing of a version (`/latest/`): without slashes, and with `user-data` even if
    /// the instance has none. As on EC2.
    pub(super) fn list_version(self, focus: Focus<'a>) -> String {
        let top = TreeNode {
            kind: Some(&TOP),
            path: String::new(),
            focus,
        };
        let names = self
            .children(&top)
            .into_iter()
            .filter(|child| child.name == "user-data" || self.exists(&child.node));
        names.map(|child| child.name).collect::<Vec<_>>().join("\n")
    }
}
