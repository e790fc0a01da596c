//! What is in an archive or a store object, as `ls` shows it.

use crate::session::{Failure, print};
use clap::Args;
use nivis::store::json::Json;
use nivis::store::nar::{NarEvent, NarReader};
use nivis_store::io_text;
use std::collections::BTreeMap;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

#[derive(Args)]
pub struct ListArgs {
    /// List folders in folders, too
    #[arg(short = 'R', long)]
    recursive: bool,
    /// Show types and sizes
    #[arg(short, long)]
    long: bool,
    /// Show folders, not what is in them
    #[arg(short, long)]
    directory: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// A file, link or folder.
#[derive(Debug)]
pub enum Node {
    Regular {
        executable: bool,
        size: u64,
        /// Where the contents are in the archive, if it is one.
        offset: Option<u64>,
    },
    Symlink(Vec<u8>),
    Directory(Entries),
}

/// What is in a folder, by name.
pub type Entries = BTreeMap<Vec<u8>, Node>;

impl Node {
    /// Reads an archive; contents are skipped.
    pub fn from_archive<R: Read>(mut reader: NarReader<R>) -> Result<Node, Failure> {
        let mut open: Vec<(Vec<u8>, Entries)> = Vec::new();
        let mut names: Vec<Vec<u8>> = Vec::new();
        let mut root = None;
        while let Some(event) = reader.next_event()? {
            let node = match event {
                NarEvent::Entry { name } => {
                    names.push(name.to_vec());
                    continue;
                }
                NarEvent::Directory => {
                    open.push((names.pop().unwrap_or_default(), Entries::new()));
                    continue;
                }
                NarEvent::EndDirectory => {
                    let (name, entries) = open.pop().unwrap_or_default();
                    names.push(name);
                    Node::Directory(entries)
                }
                NarEvent::Symlink { target } => Node::Symlink(target.to_vec()),
                NarEvent::Regular { executable, len } => Node::Regular {
                    executable,
                    size: len,
                    offset: Some(reader.offset()),
                },
            };
            let name = names.pop().unwrap_or_default();
            match open.last_mut() {
                Some((_, entries)) => {
                    entries.insert(name, node);
                }
                None => root = Some(node),
            }
        }
        root.ok_or_else(|| Failure::Other("the archive is empty".to_string()))
    }

    /// Looks at files, so many levels of folders deep.
    pub fn from_files(path: &Path, depth: usize) -> Result<Node, Failure> {
        let fail = |e: std::io::Error| match e.kind() {
            std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory => {
                Failure::Other(format!("path '{}' does not exist", path.display()))
            }
            _ => Failure::Other(format!("cannot read '{}': {}", path.display(), io_text(&e))),
        };
        let meta = std::fs::symlink_metadata(path).map_err(fail)?;
        if meta.is_symlink() {
            let target = std::fs::read_link(path).map_err(fail)?;
            return Ok(Node::Symlink(target.as_os_str().as_bytes().to_vec()));
        }
        if !meta.is_dir() {
            return Ok(Node::Regular {
                executable: meta.permissions().mode() & 0o100 != 0,
                size: meta.len(),
                offset: None,
            });
        }
        let mut entries = BTreeMap::new();
        if depth > 0 {
            for entry in std::fs::read_dir(path).map_err(fail)? {
                let entry = entry.map_err(fail)?;
                let node = Node::from_files(&entry.path(), depth - 1)?;
                entries.insert(entry.file_name().as_bytes().to_vec(), node);
            }
        }
        Ok(Node::Directory(entries))
    }

    fn find(&self, path: &str) -> Option<&Node> {
        components(path)
            .into_iter()
            .try_fold(self, |node, name| match node {
                Node::Directory(entries) => entries.get(name),
                _ => None,
            })
    }

    fn json(&self, depth: Option<usize>) -> Json {
        let number = |n: u64| Json::Number(n.to_string());
        match self {
            Node::Regular {
                executable,
                size,
                offset,
            } => {
                let mut entries = vec![("type", Json::string("regular")), ("size", number(*size))];
                if *executable {
                    entries.push(("executable", Json::Bool(true)));
                }
                if let Some(offset) = offset {
                    entries.push(("narOffset", number(*offset)));
                }
                Json::object(entries)
            }
            Node::Symlink(target) => Json::object([
                ("type", Json::string("symlink")),
                ("target", Json::string(String::from_utf8_lossy(target))),
            ]),
            Node::Directory(entries) => {
                let entries = entries.iter().map(|(name, node)| {
                    let node = match depth {
                        Some(0) => Json::Object(BTreeMap::new()),
                        depth => node.json(depth.map(|d| d - 1)),
                    };
                    (String::from_utf8_lossy(name).into_owned(), node)
                });
                Json::object([
                    ("type", Json::string("directory")),
                    ("entries", Json::object(entries)),
                ])
            }
        }
    }

    fn is_directory(&self) -> bool {
        matches!(self, Node::Directory(_))
    }
}

/// The names in a path, slashes at its start, end and in a row left out.
pub fn components(path: &str) -> Vec<&[u8]> {
    path.split('/')
        .filter(|c| !c.is_empty() && *c != ".")
        .map(str::as_bytes)
        .collect()
}

/// How many levels of folders have to be looked at to list them.
pub fn depth(args: &ListArgs) -> usize {
    if args.recursive {
        nivis::store::nar::MAX_DEPTH
    } else {
        1
    }
}

/// Prints what is at a path of a tree.
///
/// # Errors
/// When nothing is there, or flags contradict each other.
pub fn list(root: &Node, path: &str, args: &ListArgs) -> Result<(), Failure> {
    if args.json && args.directory {
        return Err(Failure::Usage(
            "'--directory' is useless with '--json'".to_string(),
        ));
    }
    let Some(node) = root.find(path) else {
        let path = path.trim_matches('/');
        return Err(Failure::Other(format!("path '/{path}' does not exist")));
    };
    if args.json {
        let json = node.json((!args.recursive).then_some(0));
        return print(format!("{}\n", json.to_text()).as_bytes());
    }
    let mut out = Vec::new();
    if node.is_directory() {
        if args.directory {
            line(node, b".", args, &mut out);
            if args.recursive {
                below(node, b".", args, &mut out);
            }
        } else {
            below(node, b".", args, &mut out);
        }
    } else {
        let name = components(path).last().copied().unwrap_or_default();
        line(node, name, args, &mut out);
    }
    print(&out)
}

fn below(node: &Node, path: &[u8], args: &ListArgs, out: &mut Vec<u8>) {
    let Node::Directory(entries) = node else {
        return;
    };
    for (name, child) in entries {
        let path = [path, b"/", name].concat();
        line(child, &path, args, out);
        if args.recursive {
            below(child, &path, args, out);
        }
    }
}

fn line(node: &Node, path: &[u8], args: &ListArgs, out: &mut Vec<u8>) {
    if args.long {
        let (kind, size) = match node {
            Node::Regular {
                executable: true,
                size,
                ..
            } => ("-r-xr-xr-x", *size),
            Node::Regular { size, .. } => ("-r--r--r--", *size),
            Node::Symlink(_) => ("lrwxrwxrwx", 0),
            Node::Directory(_) => ("dr-xr-xr-x", 0),
        };
        out.extend(format!("{kind} {size:>20} ").bytes());
    }
    out.extend(path);
    if args.long
        && let Node::Symlink(target) = node
    {
        out.extend(b" -> ");
        out.extend(target);
    }
    out.push(b'\n');
}

/// JSON without white space, as lines that are indented by two spaces a level.
pub fn indented(compact: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(compact.len() * 2);
    let mut depth = 0usize;
    let line = |depth: usize, out: &mut Vec<u8>| {
        out.push(b'\n');
        out.extend(std::iter::repeat_n(b' ', 2 * depth));
    };
    let mut bytes = compact.iter().copied().peekable();
    while let Some(byte) = bytes.next() {
        match byte {
            b'"' => {
                out.push(byte);
                while let Some(byte) = bytes.next() {
                    out.push(byte);
                    match byte {
                        b'\\' => out.extend(bytes.next()),
                        b'"' => break,
                        _ => {}
                    }
                }
            }
            b'{' | b'[' => {
                out.push(byte);
                match bytes.next_if(|b| matches!(b, b'}' | b']')) {
                    Some(close) => out.push(close),
                    None => {
                        depth += 1;
                        line(depth, &mut out);
                    }
                }
            }
            b'}' | b']' => {
                depth = depth.saturating_sub(1);
                line(depth, &mut out);
                out.push(byte);
            }
            b',' => {
                out.push(byte);
                line(depth, &mut out);
            }
            b':' => out.extend(b": "),
            byte => out.push(byte),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_for_people() {
        let text = r#"{"a":[1,{}],"b:,":"\\\"{","c":[]}"#;
        let wanted =
            "{\n  \"a\": [\n    1,\n    {}\n  ],\n  \"b:,\": \"\\\\\\\"{\",\n  \"c\": []\n}";
        assert_eq!(String::from_utf8_lossy(&indented(text.as_bytes())), wanted);
    }
}
