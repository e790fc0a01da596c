//! From the text of a pattern to its syntax tree.
//!
//! The accepted language is POSIX extended as libstdc++ (GCC 16) reads it: `. [] () * + ? {} | ^ $` and a backslash
//! before one of `. [ \ ( ) * + ? { | ^ $`. Deviations from the standard that count: `*` after `^`, `(` or `|` is an error,
//! an escaped ordinary character is an error, `]` and `}` alone are ordinary, `()` and empty alternatives are fine,
//! a quantifier may follow a quantifier, `[[:ALPHA:]]` is spelled in any case, `[[=a=]]` matches `A` as well.

use super::{ByteSet, STATE_LIMIT};

/// Index of a node; children come before their parents.
pub(super) type NodeId = usize;

/// A node of the tree.
#[derive(Debug, Clone)]
pub(super) enum Kind {
    /// One byte out of a set (index into [`Tree::sets`]).
    Set(usize),
    /// One given byte.
    Byte(u8),
    /// `^`
    Begin,
    /// `$`
    End,
    /// One after the other.
    Cat(Vec<NodeId>),
    /// Either of two or more.
    Alt(Vec<NodeId>),
    /// A capturing group, counted from 0.
    Group(usize, NodeId),
    /// `*`, `?`, `{min,max}`; `max` is `None` for no bound.
    Repeat {
        node: NodeId,
        min: u32,
        max: Option<u32>,
    },
    /// `+`. Unlike `{1,}` its first run belongs to the loop, which shows when the body can be empty.
    Plus(NodeId),
}

#[derive(Debug, Clone)]
pub(super) struct Node {
    pub kind: Kind,
    /// True when the node can match without consuming a byte.
    pub nullable: bool,
    /// How many automaton states libstdc++ would copy to repeat this node.
    states: usize,
}

/// A parsed pattern.
#[derive(Debug)]
pub(super) struct Tree {
    pub nodes: Vec<Node>,
    pub root: NodeId,
    pub groups: usize,
    pub sets: Vec<ByteSet>,
}

/// Why a pattern is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusal {
    Invalid,
    TooLarge,
}

/// A group that is still open, or the whole pattern.
struct Open {
    /// Number of the group, `None` for the whole pattern.
    group: Option<usize>,
    /// Finished alternatives.
    alternatives: Vec<NodeId>,
    /// The alternative being read.
    sequence: Vec<NodeId>,
}

impl Open {
    fn new(group: Option<usize>) -> Self {
        Open {
            group,
            alternatives: Vec::new(),
            sequence: Vec::new(),
        }
    }
}

struct Parser<'a> {
    pattern: &'a [u8],
    at: usize,
    tree: Tree,
    /// States that libstdc++ would have made so far: its limit decides between two errors.
    states: usize,
}

pub(super) fn parse(pattern: &[u8]) -> Result<Tree, Refusal> {
    let tree = Tree {
        nodes: Vec::new(),
        root: 0,
        groups: 0,
        sets: Vec::new(),
    };
    let mut parser = Parser {
        pattern,
        at: 0,
        tree,
        states: 0,
    };
    parser.run()?;
    Ok(parser.tree)
}

impl Parser<'_> {
    fn peek(&self) -> Option<u8> {
        self.pattern.get(self.at).copied()
    }

    fn next(&mut self) -> Option<u8> {
        let byte = self.peek()?;
        self.at += 1;
        Some(byte)
    }

    fn eat(&mut self, byte: u8) -> bool {
        let found = self.peek() == Some(byte);
        self.at += usize::from(found);
        found
    }

    fn count(&mut self, states: usize) -> Result<(), Refusal> {
        self.states = self.states.saturating_add(states);
        if self.states > STATE_LIMIT {
            Err(Refusal::TooLarge)
        } else {
            Ok(())
        }
    }

    fn push(&mut self, kind: Kind, nullable: bool, states: usize) -> NodeId {
        self.tree.nodes.push(Node {
            kind,
            nullable,
            states,
        });
        self.tree.nodes.len() - 1
    }

    fn node(&self, id: NodeId) -> (bool, usize) {
        self.tree
            .nodes
            .get(id)
            .map_or((false, 0), |n| (n.nullable, n.states))
    }

    fn run(&mut self) -> Result<(), Refusal> {
        let mut outer: Vec<Open> = Vec::new();
        let mut open = Open::new(None);
        self.count(1)?;
        // True directly after something that a quantifier may follow.
        let mut quantifiable = false;
        while let Some(byte) = self.next() {
            match byte {
                b'^' | b'$' => {
                    self.count(1)?;
                    let kind = if byte == b'^' { Kind::Begin } else { Kind::End };
                    let node = self.push(kind, true, 1);
                    open.sequence.push(node);
                    quantifiable = false;
                }
                b'(' => {
                    self.count(1)?;
                    let group = self.tree.groups;
                    self.tree.groups += 1;
                    outer.push(std::mem::replace(&mut open, Open::new(Some(group))));
                    quantifiable = false;
                }
                b')' => {
                    let parent = outer.pop().ok_or(Refusal::Invalid)?;
                    let done = std::mem::replace(&mut open, parent);
                    let group = done.group.ok_or(Refusal::Invalid)?;
                    let inner = self.close(done)?;
                    self.count(1)?;
                    let (nullable, states) = self.node(inner);
                    let node = self.push(Kind::Group(group, inner), nullable, states + 2);
                    open.sequence.push(node);
                    quantifiable = true;
                }
                b'|' => {
                    let node = self.sequence(std::mem::take(&mut open.sequence))?;
                    if !open.alternatives.is_empty() {
                        self.count(2)?;
                    }
                    open.alternatives.push(node);
                    quantifiable = false;
                }
                b'*' | b'+' | b'?' | b'{' => {
                    if !quantifiable {
                        return Err(Refusal::Invalid);
                    }
                    let last = open.sequence.pop().ok_or(Refusal::Invalid)?;
                    let node = self.quantify(byte, last)?;
                    open.sequence.push(node);
                }
                _ => {
                    let kind = match byte {
                        0 => return Err(Refusal::Invalid),
                        b'.' => {
                            let mut set = ByteSet::all();
                            set.remove(0);
                            self.set(set)
                        }
                        b'[' => {
                            let set = self.bracket()?;
                            self.set(set)
                        }
                        b'\\' => match self.next() {
                            Some(c) if b".[\\()*+?{|^$".contains(&c) => Kind::Byte(c),
                            _ => return Err(Refusal::Invalid),
                        },
                        ordinary => Kind::Byte(ordinary),
                    };
                    self.count(1)?;
                    let node = self.push(kind, false, 1);
                    open.sequence.push(node);
                    quantifiable = true;
                }
            }
        }
        if !outer.is_empty() {
            return Err(Refusal::Invalid);
        }
        self.tree.root = self.close(open)?;
        self.count(2)
    }

    fn set(&mut self, set: ByteSet) -> Kind {
        let sets = &mut self.tree.sets;
        let known = sets.iter().rev().take(16).position(|s| *s == set);
        Kind::Set(match known {
            Some(back) => sets.len() - 1 - back,
            None => {
                sets.push(set);
                sets.len() - 1
            }
        })
    }

    /// A finished sequence as one node.
    fn sequence(&mut self, nodes: Vec<NodeId>) -> Result<NodeId, Refusal> {
        self.count(1)?;
        let (mut nullable, mut states) = (true, 1usize);
        for id in &nodes {
            let (n, s) = self.node(*id);
            nullable &= n;
            states = states.saturating_add(s);
        }
        Ok(self.push(Kind::Cat(nodes), nullable, states))
    }

    /// The contents of a finished group as one node.
    fn close(&mut self, mut open: Open) -> Result<NodeId, Refusal> {
        let last = self.sequence(open.sequence)?;
        if open.alternatives.is_empty() {
            return Ok(last);
        }
        self.count(2)?;
        open.alternatives.push(last);
        let (mut nullable, mut states) = (false, 0usize);
        for id in &open.alternatives {
            let (n, s) = self.node(*id);
            nullable |= n;
            states = states.saturating_add(s + 2);
        }
        Ok(self.push(
            Kind::Alt(open.alternatives),
            nullable,
            states.saturating_sub(2),
        ))
    }

    fn quantify(&mut self, quantifier: u8, node: NodeId) -> Result<NodeId, Refusal> {
        let (inner_nullable, inner) = self.node(node);
        let (min, max, states) = match quantifier {
            b'*' => (0, None, inner + 1),
            b'+' => (1, None, inner + 1),
            b'?' => (0, Some(1), inner + 2),
            _ => {
                let min = self.number()?.ok_or(Refusal::Invalid)?;
                let max = if self.eat(b',') {
                    self.number()?
                } else {
                    Some(min)
                };
                if !self.eat(b'}') {
                    return Err(Refusal::Invalid);
                }
                let required = to_usize(min).saturating_mul(inner).saturating_add(1);
                // The copies are made before the bounds are compared.
                self.count(required)?;
                let optional = match max {
                    None => inner + 1,
                    Some(max) => {
                        let times = max.checked_sub(min).ok_or(Refusal::Invalid)?;
                        to_usize(times).saturating_mul(inner + 1).saturating_add(1)
                    }
                };
                self.count(optional)?;
                (min, max, required.saturating_add(optional))
            }
        };
        if quantifier != b'{' {
            self.count(states - inner)?;
        }
        let nullable = min == 0 || inner_nullable;
        let kind = if quantifier == b'+' {
            Kind::Plus(node)
        } else {
            Kind::Repeat { node, min, max }
        };
        Ok(self.push(kind, nullable, states))
    }

    /// A decimal number, if one begins here; one that does not fit C's `int` is an error.
    fn number(&mut self) -> Result<Option<u32>, Refusal> {
        let mut value: Option<i32> = None;
        while let Some(digit) = self.peek().filter(u8::is_ascii_digit) {
            self.at += 1;
            let next = value
                .unwrap_or(0)
                .checked_mul(10)
                .and_then(|v| v.checked_add(i32::from(digit - b'0')));
            value = Some(next.ok_or(Refusal::Invalid)?);
        }
        Ok(value.map(i32::unsigned_abs))
    }

    /// A bracket expression, after its `[`.
    fn bracket(&mut self) -> Result<ByteSet, Refusal> {
        let negated = self.eat(b'^');
        let mut set = ByteSet::none();
        // The byte that could begin a range, or a class, which cannot.
        let mut last = Last::Nothing;
        let mut first = true;
        loop {
            let byte = self.next().ok_or(Refusal::Invalid)?;
            match byte {
                b']' if !first => break,
                b'-' if first => last = Last::Byte(b'-'),
                b'-' => {
                    if self.eat(b']') {
                        set.insert(b'-');
                        break;
                    }
                    let Last::Byte(low) = last else {
                        return Err(Refusal::Invalid);
                    };
                    let high = match self.next().ok_or(Refusal::Invalid)? {
                        // A class or collating symbol cannot end a range.
                        b'[' if matches!(self.peek(), Some(b'.' | b':' | b'=')) => {
                            return Err(Refusal::Invalid);
                        }
                        b'[' if self.peek().is_none() => return Err(Refusal::Invalid),
                        high => high,
                    };
                    // `char` is signed where libstdc++ compares: bytes from 0x80 on sort before ASCII.
                    let (low, high) = (low.cast_signed(), high.cast_signed());
                    if low > high {
                        return Err(Refusal::Invalid);
                    }
                    for byte in low..=high {
                        set.insert(byte.cast_unsigned());
                    }
                    last = Last::Nothing;
                }
                b'[' => match self.peek() {
                    None => return Err(Refusal::Invalid),
                    Some(mark @ (b'.' | b':' | b'=')) => {
                        self.at += 1;
                        let name = self.class_name(mark)?;
                        last = match mark {
                            b'.' => {
                                let byte = collating_byte(name).ok_or(Refusal::Invalid)?;
                                set.insert(byte);
                                Last::Byte(byte)
                            }
                            b'=' => {
                                let byte = collating_byte(name).ok_or(Refusal::Invalid)?;
                                set.insert(byte.to_ascii_lowercase());
                                set.insert(byte.to_ascii_uppercase());
                                Last::Class
                            }
                            _ => {
                                let class = class(name).ok_or(Refusal::Invalid)?;
                                (0..=127u8)
                                    .filter(|b| class(*b))
                                    .for_each(|b| set.insert(b));
                                Last::Class
                            }
                        };
                    }
                    Some(_) => {
                        set.insert(b'[');
                        last = Last::Byte(b'[');
                    }
                },
                other => {
                    set.insert(other);
                    last = Last::Byte(other);
                }
            }
            if let Last::Byte(byte) = last {
                set.insert(byte);
            }
            first = false;
        }
        if negated {
            set.negate();
        }
        Ok(set)
    }

    /// The name in `[:name:]`, `[.name.]` or `[=name=]`, after the opening mark.
    fn class_name(&mut self, mark: u8) -> Result<&[u8], Refusal> {
        let rest = self.pattern.get(self.at..).unwrap_or_default();
        let len = rest
            .iter()
            .position(|b| *b == mark)
            .ok_or(Refusal::Invalid)?;
        if rest.get(len + 1) != Some(&b']') {
            return Err(Refusal::Invalid);
        }
        self.at += len + 2;
        Ok(rest.get(..len).unwrap_or_default())
    }
}

fn to_usize(n: u32) -> usize {
    usize::try_from(n).unwrap_or(usize::MAX)
}

#[derive(Clone, Copy)]
enum Last {
    Nothing,
    Byte(u8),
    Class,
}

/// The members of a character class; its name may be spelled in any case.
fn class(name: &[u8]) -> Option<fn(u8) -> bool> {
    Some(match name.to_ascii_lowercase().as_slice() {
        b"d" | b"digit" => |b| b.is_ascii_digit(),
        b"w" => |b| b.is_ascii_alphanumeric() || b == b'_',
        b"s" | b"space" => |b| matches!(b, b'\t'..=b'\r' | b' '),
        b"alnum" => |b| b.is_ascii_alphanumeric(),
        b"alpha" => |b| b.is_ascii_alphabetic(),
        b"blank" => |b| matches!(b, b' ' | b'\t'),
        b"cntrl" => |b| b.is_ascii_control(),
        b"graph" => |b| b.is_ascii_graphic(),
        b"lower" => |b| b.is_ascii_lowercase(),
        b"print" => |b| matches!(b, b' '..=b'~'),
        b"punct" => |b| b.is_ascii_punctuation(),
        b"upper" => |b| b.is_ascii_uppercase(),
        b"xdigit" => |b| b.is_ascii_hexdigit(),
        _ => return None,
    })
}

/// The byte that a collating element names: POSIX's names for ASCII; letters are their own names.
fn collating_byte(name: &[u8]) -> Option<u8> {
    if let [letter] = name
        && letter.is_ascii_alphabetic()
    {
        return Some(*letter);
    }
    let name = std::str::from_utf8(name).ok()?;
    COLLATING.iter().find(|(n, _)| *n == name).map(|(_, b)| *b)
}

#[rustfmt::skip]
const COLLATING: [(&str, u8); 76] = [
    ("NUL", 0), ("SOH", 1), ("STX", 2), ("ETX", 3), ("EOT", 4), ("ENQ", 5), ("ACK", 6), ("alert", 7), ("backspace", 8),
    ("tab", 9), ("newline", 10), ("vertical-tab", 11), ("form-feed", 12), ("carriage-return", 13), ("SO", 14), ("SI", 15),
    ("DLE", 16), ("DC1", 17), ("DC2", 18), ("DC3", 19), ("DC4", 20), ("NAK", 21), ("SYN", 22), ("ETB", 23), ("CAN", 24),
    ("EM", 25), ("SUB", 26), ("ESC", 27), ("IS4", 28), ("IS3", 29), ("IS2", 30), ("IS1", 31), ("space", 32),
    ("exclamation-mark", 33), ("quotation-mark", 34), ("number-sign", 35), ("dollar-sign", 36), ("percent-sign", 37),
    ("ampersand", 38), ("apostrophe", 39), ("left-parenthesis", 40), ("right-parenthesis", 41), ("asterisk", 42),
    ("plus-sign", 43), ("comma", 44), ("hyphen", 45), ("period", 46), ("slash", 47), ("zero", 48), ("one", 49), ("two", 50),
    ("three", 51), ("four", 52), ("five", 53), ("six", 54), ("seven", 55), ("eight", 56), ("nine", 57), ("colon", 58),
    ("semicolon", 59), ("less-than-sign", 60), ("equals-sign", 61), ("greater-than-sign", 62), ("question-mark", 63),
    ("commercial-at", 64), ("left-square-bracket", 91), ("backslash", 92), ("right-square-bracket", 93), ("circumflex", 94),
    ("underscore", 95), ("grave-accent", 96), ("left-curly-bracket", 123), ("vertical-line", 124),
    ("right-curly-bracket", 125), ("tilde", 126), ("DEL", 127),
];
