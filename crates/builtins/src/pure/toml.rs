//! TOML 1.0 as `builtins.fromTOML` reads it, which is as the toml11 library does.
//!
//! The result is a flat [`Document`] whose nodes refer to each other by number: neither reading a text, nor walking or dropping
//! the result recurses, however deep the nesting. Messages are our own and begin with `while parsing TOML:`.

mod scalar;

use super::{Error, ErrorKind};
use std::collections::BTreeMap;

/// Whether dates and times are accepted; a separate feature in Nix.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Timestamps {
    /// Dates and times are an error.
    Refuse,
    /// Dates and times are read (the experimental feature `parse-toml-timestamps`).
    Parse,
}

/// Number of a node in a [`Document`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(usize);

/// A value.
#[derive(Debug, Clone, PartialEq)]
pub enum Node {
    /// A string: without NUL bytes.
    String(Vec<u8>),
    /// An integer.
    Int(i64),
    /// A float, also `inf` and `nan`.
    Float(f64),
    /// A boolean.
    Bool(bool),
    /// A date, a time or both, in normal form; Nix makes a set of it with `_type = "timestamp"` and this as `value`.
    Timestamp(String),
    /// An array, of tables too.
    List(Vec<NodeId>),
    /// A table, by name.
    Table(BTreeMap<Vec<u8>, NodeId>),
}

/// A TOML text that was read.
#[derive(Debug, Clone)]
pub struct Document {
    nodes: Vec<Node>,
}

impl Document {
    /// The table of the whole text.
    pub fn root(&self) -> NodeId {
        NodeId(0)
    }

    /// A node; ids of another document may give `None` or something unrelated.
    pub fn get(&self, id: NodeId) -> Option<&Node> {
        self.nodes.get(id.0)
    }
}

/// How a table came to be, which decides what may still be added to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Origin {
    /// The parent in a header: `a` in `[a.b]`.
    Implicit,
    /// `[a]`
    Header,
    /// The parent in a dotted key: `a` in `a.b = 1`.
    Dotted,
    /// Anything that is complete: inline tables, arrays and scalars.
    Closed,
    /// `[[a]]`
    TableArray,
}

type Result<T> = std::result::Result<T, Error>;

/// A list or inline table that is being read.
#[derive(Debug)]
struct Open {
    node: NodeId,
    /// For an inline table: where the value that comes next goes.
    slot: Option<(NodeId, Vec<u8>)>,
}

pub(super) struct Parser<'a> {
    text: &'a [u8],
    at: usize,
    nodes: Vec<Node>,
    origins: Vec<Origin>,
    timestamps: Timestamps,
}

/// Reads a TOML text.
///
/// # Errors
///
/// [`ErrorKind::InvalidToml`] with a message that names the line and column of the problem.
pub fn parse(text: &[u8], timestamps: Timestamps) -> Result<Document> {
    let mut parser = Parser {
        text,
        at: 0,
        nodes: Vec::new(),
        origins: Vec::new(),
        timestamps,
    };
    parser.add(Node::Table(BTreeMap::new()), Origin::Header);
    parser.document()?;
    Ok(Document {
        nodes: parser.nodes,
    })
}

impl Parser<'_> {
    fn error(&self, what: &str) -> Error {
        self.error_at(self.at, what)
    }

    fn error_at(&self, at: usize, what: &str) -> Error {
        let before = self.text.get(..at.min(self.text.len())).unwrap_or_default();
        let line = before.iter().filter(|b| **b == b'\n').count() + 1;
        let column = before.iter().rev().take_while(|b| **b != b'\n').count() + 1;
        Error::new(
            ErrorKind::InvalidToml,
            format!("while parsing TOML: {what} (line {line}, column {column})"),
        )
    }

    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    fn rest(&self) -> &[u8] {
        self.text.get(self.at..).unwrap_or_default()
    }

    fn eat(&mut self, byte: u8) -> bool {
        let found = self.peek() == Some(byte);
        self.at += usize::from(found);
        found
    }

    fn eat_all(&mut self, text: &[u8]) -> bool {
        let found = self.rest().starts_with(text);
        if found {
            self.at += text.len();
        }
        found
    }

    fn add(&mut self, node: Node, origin: Origin) -> NodeId {
        self.nodes.push(node);
        self.origins.push(origin);
        NodeId(self.nodes.len() - 1)
    }

    fn origin(&self, id: NodeId) -> Origin {
        self.origins.get(id.0).copied().unwrap_or(Origin::Closed)
    }

    fn set_origin(&mut self, id: NodeId, origin: Origin) {
        if let Some(slot) = self.origins.get_mut(id.0) {
            *slot = origin;
        }
    }

    fn child(&self, table: NodeId, name: &[u8]) -> Option<NodeId> {
        match self.nodes.get(table.0) {
            Some(Node::Table(entries)) => entries.get(name).copied(),
            _ => None,
        }
    }

    fn insert(&mut self, table: NodeId, name: Vec<u8>, value: NodeId) {
        if let Some(Node::Table(entries)) = self.nodes.get_mut(table.0) {
            entries.insert(name, value);
        }
    }

    fn push(&mut self, list: NodeId, value: NodeId) {
        if let Some(Node::List(items)) = self.nodes.get_mut(list.0) {
            items.push(value);
        }
    }

    fn spaces(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t')) {
            self.at += 1;
        }
    }

    fn newline(&mut self) -> bool {
        self.eat(b'\n') || self.eat_all(b"\r\n")
    }

    /// A comment, if one begins here, without its line end.
    fn comment(&mut self) -> Result<()> {
        if !self.eat(b'#') {
            return Ok(());
        }
        loop {
            match self.peek() {
                None | Some(b'\n') => return Ok(()),
                Some(b'\r') if self.rest().starts_with(b"\r\n") => return Ok(()),
                Some(_) => self.character("a comment")?,
            }
        }
    }

    /// Passes one character that may stand in comments and strings: tab, or anything but control characters, in valid UTF-8.
    fn character(&mut self, place: &str) -> Result<()> {
        let len = match self.peek() {
            Some(b'\t' | b' '..=b'~') => 1,
            Some(0x80..) => {
                let window = self.rest();
                let window = window.get(..window.len().min(4)).unwrap_or_default();
                let valid = match std::str::from_utf8(window) {
                    Ok(text) => text,
                    Err(e) => {
                        std::str::from_utf8(window.get(..e.valid_up_to()).unwrap_or_default())
                            .unwrap_or_default()
                    }
                };
                match valid.chars().next() {
                    Some(c) => c.len_utf8(),
                    None => return Err(self.error(&format!("bytes that are not UTF-8 in {place}"))),
                }
            }
            _ => return Err(self.error(&format!("a control character in {place}"))),
        };
        self.at += len;
        Ok(())
    }

    /// Spaces, comments and newlines.
    fn blank(&mut self) -> Result<()> {
        loop {
            self.spaces();
            self.comment()?;
            if !self.newline() {
                return Ok(());
            }
        }
    }

    fn line_end(&mut self) -> Result<()> {
        self.spaces();
        self.comment()?;
        if self.newline() || self.peek().is_none() {
            return Ok(());
        }
        Err(self.error("expected the end of the line"))
    }

    fn document(&mut self) -> Result<()> {
        self.eat_all(b"\xEF\xBB\xBF");
        let mut table = NodeId(0);
        loop {
            self.blank()?;
            if self.peek().is_none() {
                return Ok(());
            }
            if self.eat(b'[') {
                let many = self.eat(b'[');
                let begin = self.at;
                let path = self.key_path()?;
                if !self.eat(b']') || (many && !self.eat(b']')) {
                    return Err(self.error("expected ']' after the name of a table"));
                }
                table = self.header(path, many, begin)?;
            } else {
                let begin = self.at;
                let path = self.key_path()?;
                let slot = self.place(table, path, begin)?;
                self.equals()?;
                self.value(slot)?;
                self.spaces();
                // As in toml11, and other than TOML says, a header may follow a value on its line.
                if self.peek() == Some(b'[') {
                    continue;
                }
            }
            self.line_end()?;
        }
    }

    fn equals(&mut self) -> Result<()> {
        if !self.eat(b'=') {
            return Err(self.error("expected '=' after a key"));
        }
        self.spaces();
        Ok(())
    }

    /// A key of one or more parts, with the spaces around it.
    fn key_path(&mut self) -> Result<Vec<Vec<u8>>> {
        let mut path = Vec::new();
        loop {
            self.spaces();
            path.push(self.simple_key()?);
            self.spaces();
            if !self.eat(b'.') {
                return Ok(path);
            }
        }
    }

    fn simple_key(&mut self) -> Result<Vec<u8>> {
        match self.peek() {
            Some(b'"') => self.basic_string(),
            Some(b'\'') => self.literal_string(),
            _ => {
                let bare = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-');
                let len = self.rest().iter().take_while(|b| bare(b)).count();
                if len == 0 {
                    return Err(self.error("expected a key"));
                }
                let key = self.rest().get(..len).unwrap_or_default().to_vec();
                self.at += len;
                Ok(key)
            }
        }
    }

    /// The table that a header opens.
    fn header(&mut self, mut path: Vec<Vec<u8>>, many: bool, begin: usize) -> Result<NodeId> {
        let Some(last) = path.pop() else {
            return Ok(NodeId(0));
        };
        let mut table = NodeId(0);
        for name in path {
            table = match self.child(table, &name) {
                None => {
                    let new = self.add(Node::Table(BTreeMap::new()), Origin::Implicit);
                    self.insert(table, name, new);
                    new
                }
                Some(found) => match (self.origin(found), self.nodes.get(found.0)) {
                    (Origin::Closed, _) => return Err(self.occupied(&name, begin)),
                    (Origin::TableArray, Some(Node::List(items))) => match items.last() {
                        Some(item) => *item,
                        None => return Err(self.occupied(&name, begin)),
                    },
                    _ => found,
                },
            };
        }
        let found = self.child(table, &last);
        if many {
            let list = match found {
                None => {
                    let list = self.add(Node::List(Vec::new()), Origin::TableArray);
                    self.insert(table, last, list);
                    list
                }
                Some(list) if self.origin(list) == Origin::TableArray => list,
                Some(_) => return Err(self.occupied(&last, begin)),
            };
            let item = self.add(Node::Table(BTreeMap::new()), Origin::Header);
            self.push(list, item);
            return Ok(item);
        }
        match found {
            None => {
                let new = self.add(Node::Table(BTreeMap::new()), Origin::Header);
                self.insert(table, last, new);
                Ok(new)
            }
            Some(found) if self.origin(found) == Origin::Implicit => {
                self.set_origin(found, Origin::Header);
                Ok(found)
            }
            Some(_) => Err(self.occupied(&last, begin)),
        }
    }

    /// Where the value of a key goes; makes the tables that a dotted key needs.
    fn place(
        &mut self,
        mut table: NodeId,
        mut path: Vec<Vec<u8>>,
        begin: usize,
    ) -> Result<(NodeId, Vec<u8>)> {
        let last = path.pop().unwrap_or_default();
        for name in path {
            table = match self.child(table, &name) {
                None => {
                    let new = self.add(Node::Table(BTreeMap::new()), Origin::Dotted);
                    self.insert(table, name, new);
                    new
                }
                Some(found) if self.origin(found) == Origin::Dotted => found,
                Some(_) => return Err(self.occupied(&name, begin)),
            };
        }
        if self.child(table, &last).is_some() {
            return Err(self.occupied(&last, begin));
        }
        Ok((table, last))
    }

    fn occupied(&self, name: &[u8], begin: usize) -> Error {
        self.error_at(
            begin,
            &format!("'{}' is already defined", String::from_utf8_lossy(name)),
        )
    }

    /// Reads a value into a slot.
    fn value(&mut self, slot: (NodeId, Vec<u8>)) -> Result<()> {
        let mut open: Vec<Open> = Vec::new();
        let mut next = self.begin_value(&mut open)?;
        let root = next.unwrap_or_else(|| open.first().map_or(NodeId(0), |o| o.node));
        self.insert(slot.0, slot.1, root);
        while let Some(inner) = open.last_mut() {
            let (node, slot) = (inner.node, inner.slot.take());
            match slot {
                // In a list.
                None if self.is_list(node) => {
                    if let Some(item) = next {
                        self.push(node, item);
                        self.blank()?;
                        if !self.eat(b',') && self.peek() != Some(b']') {
                            return Err(self.error("expected ',' or ']' in an array"));
                        }
                    }
                    self.blank()?;
                    if self.eat(b']') {
                        open.pop();
                        next = Some(node);
                    } else {
                        next = self.begin_value(&mut open)?;
                    }
                }
                // In an inline table.
                slot => {
                    let first = slot.is_none();
                    if let (Some((table, name)), Some(item)) = (slot, next) {
                        self.insert(table, name, item);
                        self.spaces();
                        if !self.eat(b',') && self.peek() != Some(b'}') {
                            return Err(self.error("expected ',' or '}' in an inline table"));
                        }
                    }
                    self.spaces();
                    let after_comma = !first
                        && self
                            .text
                            .get(..self.at)
                            .is_some_and(|t| t.trim_ascii_end().ends_with(b","));
                    if !after_comma && self.eat(b'}') {
                        open.pop();
                        self.seal(node);
                        next = Some(node);
                        continue;
                    }
                    let begin = self.at;
                    let path = self.key_path()?;
                    let place = self.place(node, path, begin)?;
                    self.equals()?;
                    if let Some(inner) = open.last_mut() {
                        inner.slot = Some(place);
                    }
                    next = self.begin_value(&mut open)?;
                }
            }
        }
        Ok(())
    }

    fn is_list(&self, id: NodeId) -> bool {
        matches!(self.nodes.get(id.0), Some(Node::List(_)))
    }

    /// Nothing may be added to a finished inline table, nor to the tables that its dotted keys made.
    fn seal(&mut self, table: NodeId) {
        let mut todo = vec![table];
        while let Some(id) = todo.pop() {
            self.set_origin(id, Origin::Closed);
            if let Some(Node::Table(entries)) = self.nodes.get(id.0) {
                let inner: Vec<NodeId> = entries
                    .values()
                    .copied()
                    .filter(|e| self.origin(*e) == Origin::Dotted)
                    .collect();
                todo.extend(inner);
            }
        }
    }

    /// Reads a scalar, or opens a list or an inline table (then the result is `None`).
    fn begin_value(&mut self, open: &mut Vec<Open>) -> Result<Option<NodeId>> {
        let node = match self.peek() {
            Some(b'[') => {
                self.at += 1;
                let node = self.add(Node::List(Vec::new()), Origin::Closed);
                open.push(Open { node, slot: None });
                return Ok(None);
            }
            Some(b'{') => {
                self.at += 1;
                let node = self.add(Node::Table(BTreeMap::new()), Origin::Closed);
                open.push(Open { node, slot: None });
                return Ok(None);
            }
            Some(b'"') if self.rest().starts_with(b"\"\"\"") => {
                Node::String(self.multiline_basic()?)
            }
            Some(b'"') => Node::String(self.basic_string()?),
            Some(b'\'') if self.rest().starts_with(b"'''") => {
                Node::String(self.multiline_literal()?)
            }
            Some(b'\'') => Node::String(self.literal_string()?),
            Some(b't') if self.eat_all(b"true") => Node::Bool(true),
            Some(b'f') if self.eat_all(b"false") => Node::Bool(false),
            _ => self.number_or_date()?,
        };
        Ok(Some(self.add(node, Origin::Closed)))
    }
}

#[cfg(test)]
mod tests;
