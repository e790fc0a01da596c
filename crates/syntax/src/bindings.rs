//! Merging of attribute paths and rejection of duplicates.
//!
//! What a set says twice is an error, unless both are sets, which then become one: `a.b = 1; a.c = 2;`,
//! `a = { b = 1; }; a.c = 2;`, `a = { b = 1; }; a = { c = 2; };`. The first of them decides whether the
//! result is recursive, and positions are those of the first definition. Sets without nested paths and
//! without duplicates, nearly all, are stored as they come; the others are taken apart into [`WorkSet`]s
//! first and stored when all of their bindings are known.

use rustc_hash::FxHashMap;

use crate::ast::*;
use crate::code::{CodeSink, Item};
use crate::error::{SyntaxError, SyntaxErrorKind};

/// A binding that is not yet part of a set.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pending {
    /// The attribute path, or the inherited names; a range of `components`.
    pub(crate) path: Range,
    /// Where the path is; for `inherit`, the whole of it.
    pub(crate) span: Span,
    pub(crate) value: PendingValue,
}

/// What a pending binding binds to.
#[derive(Clone, Copy, Debug)]
pub(crate) enum PendingValue {
    /// `path = e;`
    Expr(ExprId),
    /// `inherit names;`
    Inherit,
    /// `inherit (e) names;`
    InheritFrom(ExprId),
}

/// Finds duplicate names, and puts sets together from nested paths.
#[derive(Debug, Default)]
pub(crate) struct Merger {
    /// For each name: in which round it was marked last, and with what.
    marks: Vec<(u32, u32)>,
    round: u32,
    sets: Vec<WorkSet>,
    /// Number of `sets` in use; the others wait to be used again.
    used: usize,
    /// Serial number of `sets[0]` in `index`.
    base: u32,
    /// Where the attributes of the work sets are, by serial number of the set and name. Numbers are not
    /// used twice, so nothing is ever removed.
    index: FxHashMap<(u32, Name), u32>,
}

/// A set that is being put together.
#[derive(Debug, Default)]
struct WorkSet {
    recursive: bool,
    span: Span,
    attrs: Vec<WorkAttr>,
    dynamic: Vec<WorkDynamic>,
    from: Vec<ExprId>,
    /// The expression made of it.
    made: Option<ExprId>,
}

#[derive(Clone, Copy, Debug)]
struct WorkAttr {
    name: Name,
    span: Span,
    value: WorkValue,
}

#[derive(Clone, Copy, Debug)]
struct WorkDynamic {
    name: ExprId,
    span: Span,
    value: WorkValue,
}

#[derive(Clone, Copy, Debug)]
enum WorkValue {
    Value(AttrValue),
    /// Index of a work set, greater than that of the one it is in.
    Set(usize),
}

/// Two definitions of one attribute, both of them sets.
#[derive(Clone, Copy, Debug)]
struct Merge {
    /// The merge that led to this one, if any.
    parent: Option<usize>,
    name: Name,
    /// The work set that gets the attributes.
    into: usize,
    /// The bindings that they are taken from.
    bindings: u32,
}

impl Merger {
    /// Forgets all marks.
    pub(crate) fn begin(&mut self) {
        self.round += 1;
    }

    /// Marks a name. What it was marked with before, if it was.
    pub(crate) fn mark(&mut self, name: Name, with: u32) -> Option<u32> {
        let at = name.0 as usize;
        if at >= self.marks.len() {
            self.marks
                .resize((at + 1).next_power_of_two().max(64), (0, 0));
        }
        let mark = self.marks.get_mut(at)?;
        if mark.0 == self.round {
            return Some(mark.1);
        }
        *mark = (self.round, with);
        None
    }

    fn new_set(&mut self, span: Span, recursive: bool) -> usize {
        let at = self.used;
        self.used += 1;
        if at == self.sets.len() {
            self.sets.push(WorkSet::default());
        }
        if let Some(set) = self.sets.get_mut(at) {
            set.recursive = recursive;
            set.span = span;
            set.attrs.clear();
            set.dynamic.clear();
            set.from.clear();
            set.made = None;
        }
        at
    }

    fn find(&self, set: usize, name: Name) -> Option<(usize, WorkAttr)> {
        let at = *self.index.get(&(self.base + set as u32, name))? as usize;
        let attr = self.sets.get(set)?.attrs.get(at)?;
        Some((at, *attr))
    }

    fn push(&mut self, set: usize, attr: WorkAttr) {
        let serial = self.base + set as u32;
        if let Some(set) = self.sets.get_mut(set) {
            self.index
                .insert((serial, attr.name), set.attrs.len() as u32);
            set.attrs.push(attr);
        }
    }

    fn push_dynamic(&mut self, set: usize, attr: WorkDynamic) {
        if let Some(set) = self.sets.get_mut(set) {
            set.dynamic.push(attr);
        }
    }
}

impl CodeSink<'_> {
    /// Turns the bindings on the stack, from entry `children` on, into a binding set.
    pub(crate) fn bindings(&mut self, children: usize, recursive: bool) -> u32 {
        let bindings = match self.plain_bindings(children, recursive) {
            Some(bindings) => bindings,
            None => self.merged_bindings(children, recursive),
        };
        self.stack.truncate(children);
        let index = self.ast.bindings.len() as u32;
        self.ast.bindings.push(bindings);
        index
    }

    /// The set, if it needs no merging.
    fn plain_bindings(&mut self, children: usize, recursive: bool) -> Option<Bindings> {
        let attrs_start = self.ast.attrs.len();
        let dynamic_start = self.ast.dynamic_attrs.len();
        let from_start = self.ast.lists.len();
        self.merger.begin();
        let mut plain = true;
        'entries: for entry in self.stack.get(children..).unwrap_or_default() {
            let binding = match entry.item {
                Item::Simple(name, value) => {
                    if self.merger.mark(name, 0).is_some() {
                        plain = false;
                        break;
                    }
                    let start = self.tokens.get(entry.first as usize);
                    let span = start.map_or(Span::default(), |token| token.span());
                    self.ast.attrs.push(Attr {
                        name,
                        span,
                        value: AttrValue::Plain(value),
                    });
                    continue;
                }
                Item::Binding(index) => self.pending.get(index as usize).copied(),
                _ => None,
            };
            let Some(binding) = binding else {
                continue;
            };
            let components = self
                .components
                .get(binding.path.indices())
                .unwrap_or_default();
            let from = (self.ast.lists.len() - from_start) as u32;
            match binding.value {
                PendingValue::Expr(value) => match components {
                    [AttrName::Static(name, _)] => {
                        if self.merger.mark(*name, 0).is_some() {
                            plain = false;
                            break;
                        }
                        self.ast.attrs.push(Attr {
                            name: *name,
                            span: binding.span,
                            value: AttrValue::Plain(value),
                        });
                    }
                    [AttrName::Dynamic(name)] => self.ast.dynamic_attrs.push(DynamicAttr {
                        name: *name,
                        value,
                        span: binding.span,
                    }),
                    _ => {
                        plain = false;
                        break;
                    }
                },
                PendingValue::Inherit | PendingValue::InheritFrom(_) => {
                    for component in components {
                        let AttrName::Static(name, span) = *component else {
                            continue;
                        };
                        if self.merger.mark(name, 0).is_some() {
                            plain = false;
                            break 'entries;
                        }
                        let value = if let PendingValue::Inherit = binding.value {
                            let id = ExprId(self.ast.exprs.len() as u32);
                            self.ast.exprs.push(Expr::Var(name));
                            self.ast.spans.push(span);
                            AttrValue::Inherit(id)
                        } else {
                            AttrValue::InheritFrom(from)
                        };
                        self.ast.attrs.push(Attr { name, span, value });
                    }
                    if let PendingValue::InheritFrom(id) = binding.value {
                        self.ast.lists.push(id);
                    }
                }
            }
        }
        if !plain {
            self.ast.attrs.truncate(attrs_start);
            self.ast.dynamic_attrs.truncate(dynamic_start);
            self.ast.lists.truncate(from_start);
            return None;
        }
        Some(Bindings {
            recursive,
            attrs: range(attrs_start, self.ast.attrs.len()),
            dynamic: range(dynamic_start, self.ast.dynamic_attrs.len()),
            from: range(from_start, self.ast.lists.len()),
        })
    }

    /// The set, with what it says in several places put together.
    fn merged_bindings(&mut self, children: usize, recursive: bool) -> Bindings {
        self.merger.base += self.merger.used as u32;
        self.merger.used = 0;
        let root = self.merger.new_set(Span::default(), recursive);
        for index in children..self.stack.len() {
            let Some(entry) = self.stack.get(index).copied() else {
                break;
            };
            match entry.item {
                Item::Simple(name, value) => {
                    let span = self.token_span(entry.first, entry.first + 1);
                    self.add(root, &[AttrName::Static(name, span)], span, value);
                }
                Item::Binding(index) => {
                    let Some(binding) = self.pending.get(index as usize).copied() else {
                        continue;
                    };
                    match binding.value {
                        PendingValue::Expr(value) => self.add_path(root, binding, value),
                        _ => self.add_inherit(root, binding),
                    }
                }
                _ => {}
            }
        }
        self.store(root)
    }

    fn add_path(&mut self, root: usize, binding: Pending, value: ExprId) {
        // Taken out for the time being, so that `self` is free.
        let components = std::mem::take(&mut self.components);
        let path = components.get(binding.path.indices()).unwrap_or_default();
        self.add(root, path, binding.span, value);
        self.components = components;
    }

    fn add_inherit(&mut self, root: usize, binding: Pending) {
        let from = match binding.value {
            PendingValue::InheritFrom(id) => self.merger.sets.get_mut(root).map(|set| {
                set.from.push(id);
                set.from.len() as u32 - 1
            }),
            _ => None,
        };
        for index in binding.path.indices() {
            let Some(AttrName::Static(name, span)) = self.components.get(index).copied() else {
                continue;
            };
            if let Some((_, before)) = self.merger.find(root, name) {
                let text = self.name_text(name).to_owned();
                self.duplicate(text, span, before.span);
                continue;
            }
            let value = match from {
                Some(from) => AttrValue::InheritFrom(from),
                None => AttrValue::Inherit(self.push_expr(Expr::Var(name), span)),
            };
            let value = WorkValue::Value(value);
            self.merger.push(root, WorkAttr { name, span, value });
        }
    }

    /// Adds `path = value;` to a work set.
    fn add(&mut self, mut set: usize, path: &[AttrName], span: Span, value: ExprId) {
        let Some((last, parents)) = path.split_last() else {
            return;
        };
        for (depth, component) in parents.iter().enumerate() {
            match *component {
                AttrName::Static(name, _) => match self.merger.find(set, name) {
                    Some((at, attr)) => match self.open(set, at) {
                        Some(nested) => set = nested,
                        None => {
                            let path = path.get(..=depth).unwrap_or_default();
                            let text = self.path_text(path);
                            self.duplicate(text, span, attr.span);
                            return;
                        }
                    },
                    None => {
                        let nested = self.merger.new_set(span, false);
                        let value = WorkValue::Set(nested);
                        self.merger.push(set, WorkAttr { name, span, value });
                        set = nested;
                    }
                },
                AttrName::Dynamic(name) => {
                    let nested = self.merger.new_set(span, false);
                    let value = WorkValue::Set(nested);
                    self.merger
                        .push_dynamic(set, WorkDynamic { name, span, value });
                    set = nested;
                }
            }
        }
        let plain = WorkValue::Value(AttrValue::Plain(value));
        match *last {
            AttrName::Dynamic(name) => self.merger.push_dynamic(
                set,
                WorkDynamic {
                    name,
                    span,
                    value: plain,
                },
            ),
            AttrName::Static(name, _) => {
                let Some((at, before)) = self.merger.find(set, name) else {
                    self.merger.push(
                        set,
                        WorkAttr {
                            name,
                            span,
                            value: plain,
                        },
                    );
                    return;
                };
                let both = match self.set_literal(value) {
                    Some(bindings) => self.open(set, at).map(|into| (into, bindings)),
                    None => None,
                };
                match both {
                    Some((into, bindings)) => self.merge(path, name, into, bindings),
                    None => {
                        let text = self.path_text(path);
                        self.duplicate(text, span, before.span);
                    }
                }
            }
        }
    }

    /// The bindings of an expression that is a set.
    fn set_literal(&self, id: ExprId) -> Option<u32> {
        match self.ast.exprs.get(id.0 as usize) {
            Some(Expr::Attrs(bindings)) => Some(*bindings),
            _ => None,
        }
    }

    /// The work set of the attribute at index `at`, if that is a set; made when it was stored already.
    fn open(&mut self, set: usize, at: usize) -> Option<usize> {
        let attr = *self.merger.sets.get(set)?.attrs.get(at)?;
        let id = match attr.value {
            WorkValue::Set(nested) => return Some(nested),
            WorkValue::Value(AttrValue::Plain(id)) => id,
            WorkValue::Value(_) => return None,
        };
        let bindings = self.set_literal(id)?;
        let stored = *self.ast.bindings.get(bindings as usize)?;
        let nested = self.merger.new_set(self.ast.span(id), stored.recursive);
        self.copy_into(nested, stored, |_, _, _| ());
        if let Some(attr) = self
            .merger
            .sets
            .get_mut(set)
            .and_then(|set| set.attrs.get_mut(at))
        {
            attr.value = WorkValue::Set(nested);
        }
        Some(nested)
    }

    /// Adds stored bindings to a work set; names that it has already go to `known`.
    fn copy_into(
        &mut self,
        into: usize,
        stored: Bindings,
        mut known: impl FnMut(&mut Self, Attr, usize),
    ) {
        let shift = self
            .merger
            .sets
            .get(into)
            .map_or(0, |set| set.from.len() as u32);
        for index in stored.attrs.indices() {
            let Some(mut attr) = self.ast.attrs.get(index).copied() else {
                break;
            };
            if let AttrValue::InheritFrom(from) = &mut attr.value {
                *from += shift;
            }
            match self.merger.find(into, attr.name) {
                Some((at, _)) => known(self, attr, at),
                None => self.merger.push(
                    into,
                    WorkAttr {
                        name: attr.name,
                        span: attr.span,
                        value: WorkValue::Value(attr.value),
                    },
                ),
            }
        }
        let Some(set) = self.merger.sets.get_mut(into) else {
            return;
        };
        let dynamic = self.ast.dynamic_attrs.get(stored.dynamic.indices());
        set.dynamic
            .extend(dynamic.unwrap_or_default().iter().map(|attr| WorkDynamic {
                name: attr.name,
                span: attr.span,
                value: WorkValue::Value(AttrValue::Plain(attr.value)),
            }));
        let from = self.ast.lists.get(stored.from.indices());
        set.from.extend_from_slice(from.unwrap_or_default());
    }

    /// Merges stored bindings into a work set, and the sets inside of them likewise. `path` is where.
    fn merge(&mut self, path: &[AttrName], name: Name, into: usize, bindings: u32) {
        let mut merges = vec![Merge {
            parent: None,
            name,
            into,
            bindings,
        }];
        let mut next = 0;
        while let Some(merge) = merges.get(next).copied() {
            let Some(stored) = self.ast.bindings.get(merge.bindings as usize).copied() else {
                break;
            };
            self.copy_into(merge.into, stored, |sink, attr, at| {
                let both = match attr.value {
                    AttrValue::Plain(id) => match sink.set_literal(id) {
                        Some(bindings) => sink.open(merge.into, at).map(|into| (into, bindings)),
                        None => None,
                    },
                    _ => None,
                };
                if let Some((into, bindings)) = both {
                    merges.push(Merge {
                        parent: Some(next),
                        name: attr.name,
                        into,
                        bindings,
                    });
                    return;
                }
                let mut names = vec![attr.name];
                let mut above = Some(next);
                while let Some(merge) = above.and_then(|index| merges.get(index)) {
                    if merge.parent.is_some() {
                        names.push(merge.name);
                    }
                    above = merge.parent;
                }
                let mut text = sink.path_text(path);
                for name in names.iter().rev() {
                    text.push('.');
                    text.push_str(sink.name_text(*name));
                }
                let before = sink.merger.sets.get(merge.into);
                let before = before.and_then(|set| set.attrs.get(at));
                let before = before.map_or(attr.span, |before| before.span);
                sink.duplicate(text, attr.span, before);
            });
            next += 1;
        }
    }

    /// Moves all work sets into the tree. The bindings of the outermost one.
    fn store(&mut self, root: usize) -> Bindings {
        let mut sets = std::mem::take(&mut self.merger.sets);
        let mut stored = Bindings {
            recursive: false,
            attrs: Range::default(),
            dynamic: Range::default(),
            from: Range::default(),
        };
        // Inner sets come after outer ones, so this is from the inside to the outside.
        for at in (0..self.merger.used).rev() {
            let Some(set) = sets.get(at) else {
                continue;
            };
            let made = |value: WorkValue| match value {
                WorkValue::Value(value) => value,
                WorkValue::Set(nested) => {
                    let made = sets.get(nested).and_then(|nested| nested.made);
                    AttrValue::Plain(made.unwrap_or(ExprId(0)))
                }
            };
            let attrs_start = self.ast.attrs.len();
            self.ast.attrs.extend(set.attrs.iter().map(|attr| Attr {
                name: attr.name,
                span: attr.span,
                value: made(attr.value),
            }));
            let dynamic_start = self.ast.dynamic_attrs.len();
            for attr in &set.dynamic {
                if let AttrValue::Plain(value) = made(attr.value) {
                    self.ast.dynamic_attrs.push(DynamicAttr {
                        name: attr.name,
                        value,
                        span: attr.span,
                    });
                }
            }
            let from_start = self.ast.lists.len();
            self.ast.lists.extend_from_slice(&set.from);
            stored = Bindings {
                recursive: set.recursive,
                attrs: range(attrs_start, self.ast.attrs.len()),
                dynamic: range(dynamic_start, self.ast.dynamic_attrs.len()),
                from: range(from_start, self.ast.lists.len()),
            };
            if at != root {
                let span = set.span;
                let index = self.ast.bindings.len() as u32;
                self.ast.bindings.push(stored);
                let id = self.push_expr(Expr::Attrs(index), span);
                if let Some(set) = sets.get_mut(at) {
                    set.made = Some(id);
                }
            }
        }
        self.merger.sets = sets;
        stored
    }

    fn name_text(&self, name: Name) -> &str {
        let name = self.names.names.get(name.0 as usize);
        name.map_or("", |name| name.as_str())
    }

    fn path_text(&self, path: &[AttrName]) -> String {
        let mut text = String::new();
        for component in path {
            if !text.is_empty() {
                text.push('.');
            }
            match component {
                AttrName::Static(name, _) => text.push_str(self.name_text(*name)),
                AttrName::Dynamic(_) => text.push_str("${…}"),
            }
        }
        text
    }

    fn duplicate(&mut self, path: String, span: Span, before: Span) {
        self.errors.push(
            SyntaxError::new(
                SyntaxErrorKind::DuplicateAttribute,
                format!("attribute '{path}' already defined"),
                span,
            )
            .with_related(before, "first defined here"),
        );
    }
}

fn range(start: usize, end: usize) -> Range {
    Range {
        start: start as u32,
        end: end as u32,
    }
}
