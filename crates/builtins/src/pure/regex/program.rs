//! From the tree to the program that [`super::exec`] runs.

use super::ByteSet;
use super::parse::{Kind, NodeId, Tree};

/// An instruction; those without a target go on to the next one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Inst {
    /// Consume this byte.
    Byte(u8),
    /// Consume a byte of this set.
    Set(usize),
    /// Consume bytes of this set, as many as lead to a match, most first.
    Star { set: usize, memo: usize },
    /// At the begin of the text only.
    Begin,
    /// At the end of the text only.
    End,
    /// A group begins.
    Open(usize),
    /// A group ends.
    Close(usize),
    /// Go on elsewhere.
    Jump(usize),
    /// Try the next instruction, and only when that finds nothing, `exit`. `limit` numbers a repetition whose body
    /// can be empty: such a body runs at most twice at one position.
    Repeat {
        exit: usize,
        memo: usize,
        limit: Option<usize>,
    },
    /// Try `again`, and only when that finds nothing, the next instruction.
    RepeatBack {
        again: usize,
        memo: usize,
        limit: Option<usize>,
    },
    /// Try both the next instruction and `other`; the longer match wins, the first of equals.
    Either { other: usize, memo: usize },
    /// A match.
    Accept,
}

#[derive(Debug)]
pub(super) struct Program {
    pub code: Vec<Inst>,
    pub sets: Vec<ByteSet>,
    pub groups: usize,
    /// How many instructions carry a `memo` number.
    pub memos: usize,
    /// The bytes a match can begin with; `None` when a match can be empty.
    pub first: Option<ByteSet>,
    /// The only byte in `first`.
    pub first_byte: Option<u8>,
    /// The pattern is this text and nothing else.
    pub literal: Option<Vec<u8>>,
}

/// What remains to be emitted.
enum Todo {
    Node(NodeId),
    Inst(Inst),
    /// Make the instruction at `.0` point here.
    Target(usize),
    /// `Repeat` over a node, then the node, then what closes the loop (if it is one).
    Optional {
        node: NodeId,
        many: bool,
    },
    /// The end of a `*` loop whose `Repeat` is at `.0`.
    LoopEnd(usize),
    /// The test after a `+` loop whose body begins at `.0`.
    PlusEnd {
        body: usize,
        node: NodeId,
    },
    /// The last of nested optional copies ended; each `Repeat` in the list exits here.
    Nested {
        node: NodeId,
        left: u32,
        exits: Vec<usize>,
    },
    /// The alternatives that are left, with the jumps that already wait for the end.
    Alternatives {
        rest: Vec<NodeId>,
        jumps: Vec<usize>,
    },
    /// The first alternative has been emitted: its jump, then the others.
    AfterAlternative {
        either: usize,
        rest: Vec<NodeId>,
        jumps: Vec<usize>,
    },
    /// A node several times.
    Times {
        node: NodeId,
        left: u32,
    },
    PlusStart(NodeId),
}

struct Compiler<'a> {
    tree: &'a Tree,
    code: Vec<Inst>,
    sets: Vec<ByteSet>,
    memos: usize,
    limits: usize,
}

impl Program {
    pub(super) fn new(tree: &Tree) -> Self {
        let mut compiler = Compiler {
            tree,
            code: Vec::new(),
            sets: tree.sets.clone(),
            memos: 0,
            limits: 0,
        };
        compiler.emit(tree.root);
        compiler.code.push(Inst::Accept);
        let first = first_set(tree);
        Program {
            first,
            first_byte: first.and_then(|f| f.single()),
            literal: literal(tree),
            code: compiler.code,
            sets: compiler.sets,
            groups: tree.groups,
            memos: compiler.memos,
        }
    }
}

impl Compiler<'_> {
    fn kind(&self, node: NodeId) -> Option<&Kind> {
        self.tree.nodes.get(node).map(|n| &n.kind)
    }

    fn memo(&mut self) -> usize {
        self.memos += 1;
        self.memos - 1
    }

    fn limit(&mut self, node: NodeId) -> Option<usize> {
        let nullable = self.tree.nodes.get(node).is_some_and(|n| n.nullable);
        nullable.then(|| {
            self.limits += 1;
            self.limits - 1
        })
    }

    fn target(&mut self, inst: usize) {
        let here = self.code.len();
        if let Some(
            Inst::Jump(to) | Inst::Repeat { exit: to, .. } | Inst::Either { other: to, .. },
        ) = self.code.get_mut(inst)
        {
            *to = here;
        }
    }

    fn repeat(&mut self, node: NodeId) -> usize {
        let (memo, limit) = (self.memo(), self.limit(node));
        self.code.push(Inst::Repeat {
            exit: 0,
            memo,
            limit,
        });
        self.code.len() - 1
    }

    /// The set that a node consumes one byte of, if it is that simple.
    fn single_set(&mut self, node: NodeId) -> Option<usize> {
        match self.kind(node)? {
            Kind::Set(set) => Some(*set),
            Kind::Byte(byte) => {
                let mut set = ByteSet::none();
                set.insert(*byte);
                self.sets.push(set);
                Some(self.sets.len() - 1)
            }
            _ => None,
        }
    }

    fn emit(&mut self, root: NodeId) {
        let mut todo = vec![Todo::Node(root)];
        while let Some(next) = todo.pop() {
            match next {
                Todo::Inst(inst) => self.code.push(inst),
                Todo::Target(inst) => self.target(inst),
                Todo::Node(node) => self.node(node, &mut todo),
                Todo::Optional { node, many } => {
                    if many && let Some(set) = self.single_set(node) {
                        let memo = self.memo();
                        self.code.push(Inst::Star { set, memo });
                        continue;
                    }
                    let repeat = self.repeat(node);
                    todo.push(if many {
                        Todo::LoopEnd(repeat)
                    } else {
                        Todo::Target(repeat)
                    });
                    todo.push(Todo::Node(node));
                }
                Todo::LoopEnd(repeat) => {
                    self.code.push(Inst::Jump(repeat));
                    self.target(repeat);
                }
                Todo::PlusStart(node) => {
                    if let Some(set) = self.single_set(node) {
                        let memo = self.memo();
                        self.code.push(Inst::Set(set));
                        self.code.push(Inst::Star { set, memo });
                        continue;
                    }
                    todo.push(Todo::PlusEnd {
                        body: self.code.len(),
                        node,
                    });
                    todo.push(Todo::Node(node));
                }
                Todo::PlusEnd { body, node } => {
                    let (memo, limit) = (self.memo(), self.limit(node));
                    self.code.push(Inst::RepeatBack {
                        again: body,
                        memo,
                        limit,
                    });
                }
                Todo::Times { node, left } => {
                    if let Some(left) = left.checked_sub(1) {
                        todo.push(Todo::Times { node, left });
                        todo.push(Todo::Node(node));
                    }
                }
                Todo::Nested {
                    node,
                    left,
                    mut exits,
                } => match left.checked_sub(1) {
                    Some(left) => {
                        exits.push(self.repeat(node));
                        todo.push(Todo::Nested { node, left, exits });
                        todo.push(Todo::Node(node));
                    }
                    None => exits.into_iter().for_each(|e| self.target(e)),
                },
                Todo::Alternatives { mut rest, jumps } => {
                    let Some(first) = rest.pop() else { continue };
                    if rest.is_empty() {
                        todo.extend(jumps.into_iter().map(Todo::Target));
                        todo.push(Todo::Node(first));
                        continue;
                    }
                    let memo = self.memo();
                    self.code.push(Inst::Either { other: 0, memo });
                    todo.push(Todo::AfterAlternative {
                        either: self.code.len() - 1,
                        rest,
                        jumps,
                    });
                    todo.push(Todo::Node(first));
                }
                Todo::AfterAlternative {
                    either,
                    rest,
                    mut jumps,
                } => {
                    jumps.push(self.code.len());
                    self.code.push(Inst::Jump(0));
                    self.target(either);
                    todo.push(Todo::Alternatives { rest, jumps });
                }
            }
        }
    }

    fn node(&mut self, node: NodeId, todo: &mut Vec<Todo>) {
        match self.kind(node) {
            None => {}
            Some(Kind::Byte(byte)) => self.code.push(Inst::Byte(*byte)),
            Some(Kind::Set(set)) => self.code.push(Inst::Set(*set)),
            Some(Kind::Begin) => self.code.push(Inst::Begin),
            Some(Kind::End) => self.code.push(Inst::End),
            Some(Kind::Cat(nodes)) => todo.extend(nodes.iter().rev().map(|n| Todo::Node(*n))),
            Some(Kind::Alt(nodes)) => {
                let rest = nodes.iter().rev().copied().collect();
                todo.push(Todo::Alternatives {
                    rest,
                    jumps: Vec::new(),
                });
            }
            Some(&Kind::Group(group, inner)) => {
                self.code.push(Inst::Open(group));
                todo.push(Todo::Inst(Inst::Close(group)));
                todo.push(Todo::Node(inner));
            }
            Some(&Kind::Plus(node)) => todo.push(Todo::PlusStart(node)),
            Some(&Kind::Repeat { node, min, max }) => match (min, max) {
                (0, None) => todo.push(Todo::Optional { node, many: true }),
                (_, None) => {
                    todo.push(Todo::Optional { node, many: true });
                    todo.push(Todo::Times { node, left: min });
                }
                (0, Some(1)) => todo.push(Todo::Optional { node, many: false }),
                (_, Some(max)) => {
                    todo.push(Todo::Nested {
                        node,
                        left: max.saturating_sub(min),
                        exits: Vec::new(),
                    });
                    todo.push(Todo::Times { node, left: min });
                }
            },
        }
    }
}

/// The bytes that a match can begin with, or `None` when it can be empty.
fn first_set(tree: &Tree) -> Option<ByteSet> {
    if tree.nodes.get(tree.root)?.nullable {
        return None;
    }
    // Children come before parents, so one pass sees every set it needs.
    let mut firsts: Vec<ByteSet> = Vec::with_capacity(tree.nodes.len());
    let get = |firsts: &[ByteSet], id: NodeId| firsts.get(id).copied().unwrap_or_else(ByteSet::all);
    for node in &tree.nodes {
        let mut set = ByteSet::none();
        match &node.kind {
            Kind::Byte(byte) => set.insert(*byte),
            Kind::Set(id) => set = tree.sets.get(*id).copied().unwrap_or_else(ByteSet::all),
            Kind::Begin | Kind::End => {}
            Kind::Cat(nodes) => {
                for id in nodes {
                    set.extend(&get(&firsts, *id));
                    if !tree.nodes.get(*id).is_some_and(|n| n.nullable) {
                        break;
                    }
                }
            }
            Kind::Alt(nodes) => nodes.iter().for_each(|id| set.extend(&get(&firsts, *id))),
            Kind::Group(_, inner) | Kind::Plus(inner) | Kind::Repeat { node: inner, .. } => {
                set = get(&firsts, *inner)
            }
        }
        firsts.push(set);
    }
    firsts.get(tree.root).copied()
}

/// The text that the pattern stands for when it is plain text (of at least one byte).
fn literal(tree: &Tree) -> Option<Vec<u8>> {
    let Kind::Cat(nodes) = &tree.nodes.get(tree.root)?.kind else {
        return None;
    };
    if nodes.is_empty() {
        return None;
    }
    nodes
        .iter()
        .map(|id| match tree.nodes.get(*id)?.kind {
            Kind::Byte(byte) => Some(byte),
            Kind::Set(set) => tree.sets.get(set)?.single(),
            _ => None,
        })
        .collect()
}
