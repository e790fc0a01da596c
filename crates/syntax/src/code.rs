//! The sink that builds the [`Ast`] which evaluation compiles.
//!
//! A stack holds what is finished and not yet part of something larger. Every entry knows which tokens it
//! came from, so the children of a node are the entries on top that begin no earlier than the node does.
//! Nothing here recurses, neither over nested expressions nor over nested attribute paths.

use crate::ast::*;
use crate::bindings::{Merger, Pending, PendingValue};
use crate::error::{SyntaxError, SyntaxErrorKind};
use crate::kind::SyntaxKind::{self, *};
use crate::lexer::{self, Token};
use crate::names::{Interner, Slot};
use crate::parser::Sink;
use crate::strings::{self, Segment};

/// Something finished.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Entry {
    /// Index of its first token.
    pub(crate) first: u32,
    /// Index after its last token.
    pub(crate) end: u32,
    pub(crate) item: Item,
}

/// What is finished.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Item {
    /// An expression.
    Expr(ExprId),
    /// `${ e }`
    Interpolation(ExprId),
    /// A name in an attribute path.
    Name(Name),
    /// `name = value;` with a path of one name.
    Simple(Name, ExprId),
    /// Any other binding; index into [`CodeSink::pending`].
    Binding(u32),
    /// A formal; index into [`CodeSink::ast`]'s formals, to which it has been added.
    Formal(Formal),
    /// A set pattern: its formals, and whether there is an ellipsis.
    Pattern(Range, bool),
}

/// Builds an [`Ast`] from the events of a parser.
pub(crate) struct CodeSink<'a> {
    pub(crate) source: &'a [u8],
    pub(crate) tokens: &'a [Token],
    pub(crate) ast: Ast,
    pub(crate) names: Interner,
    pub(crate) stack: Vec<Entry>,
    /// Bindings that are not yet part of a set.
    pub(crate) pending: Vec<Pending>,
    /// Components of attribute paths of `pending`.
    pub(crate) components: Vec<AttrName>,
    pub(crate) merger: Merger,
    pub(crate) errors: Vec<SyntaxError>,
    /// Reused buffer.
    segments: Vec<Segment>,
    pipe_operators: bool,
}

/// The arguments above which applications to applications are no longer joined, since joining copies them.
const LONGEST_JOINED_CALL: usize = 64;

impl<'a> CodeSink<'a> {
    pub(crate) fn new(source: &'a [u8], tokens: &'a [Token], pipe_operators: bool) -> Self {
        let names = Interner::new(source.len());
        CodeSink::reusing(source, tokens, pipe_operators, Ast::default(), names)
    }

    /// Like [`CodeSink::new`], using the memory of an earlier tree, which must be empty, and `names`.
    pub(crate) fn reusing(
        source: &'a [u8],
        tokens: &'a [Token],
        pipe_operators: bool,
        mut ast: Ast,
        names: Interner,
    ) -> Self {
        let expected = tokens.len() / 2;
        ast.exprs.reserve(expected);
        ast.spans.reserve(expected);
        ast.attrs.reserve(expected / 4);
        ast.text.reserve(source.len() / 4);
        CodeSink {
            source,
            tokens,
            ast,
            names,
            stack: Vec::with_capacity(64),
            pending: Vec::new(),
            components: Vec::new(),
            merger: Merger::default(),
            errors: Vec::new(),
            segments: Vec::new(),
            pipe_operators,
        }
    }

    /// The finished tree, or what is wrong with it.
    pub(crate) fn finish(self) -> Result<Ast, Vec<SyntaxError>> {
        self.finish_with_slots().map(|(ast, _)| ast)
    }

    /// Like [`CodeSink::finish`], and gives the memory of the names' table back.
    pub(crate) fn finish_with_slots(mut self) -> Result<(Ast, Vec<Slot>), Vec<SyntaxError>> {
        if !self.errors.is_empty() {
            self.errors.sort_by_key(|error| error.span.start);
            return Err(self.errors);
        }
        self.ast.root = match self.stack.pop() {
            Some(Entry {
                item: Item::Expr(root),
                ..
            }) => Some(root),
            _ => None,
        };
        self.ast.names = self.names.names;
        Ok((self.ast, self.names.slots))
    }

    pub(crate) fn token(&self, index: u32) -> Token {
        const NONE: Token = Token {
            kind: ERROR_TOKEN,
            start: 0,
            end: 0,
        };
        self.tokens.get(index as usize).copied().unwrap_or(NONE)
    }

    pub(crate) fn token_span(&self, first: u32, end: u32) -> Span {
        Span {
            start: self.token(first).start,
            end: self.token(end.saturating_sub(1)).end,
        }
    }

    fn token_bytes(&self, index: u32) -> &'a [u8] {
        self.token(index).bytes(self.source)
    }

    pub(crate) fn push_expr(&mut self, expr: Expr, span: Span) -> ExprId {
        let id = ExprId(self.ast.exprs.len() as u32);
        self.ast.exprs.push(expr);
        self.ast.spans.push(span);
        id
    }

    /// Finishes an expression.
    fn expr(&mut self, expr: Expr, first: u32, end: u32) {
        let span = self.token_span(first, end);
        let id = self.push_expr(expr, span);
        self.push(Item::Expr(id), first, end);
    }

    fn push(&mut self, item: Item, first: u32, end: u32) {
        self.stack.push(Entry { first, end, item });
    }

    fn intern(&mut self, index: u32) -> Name {
        let bytes = self.token_bytes(index);
        // Identifiers are ASCII.
        self.names.intern(bytes).unwrap_or(Name(0))
    }

    /// Takes the top of the stack, which is an expression.
    fn pop_expr(&mut self) -> (ExprId, u32) {
        match self.stack.pop() {
            Some(Entry {
                item: Item::Expr(id),
                first,
                ..
            }) => (id, first),
            _ => (ExprId(0), 0),
        }
    }

    /// Index of the first entry of the stack that begins at token `first` or later.
    fn children(&self, first: u32) -> usize {
        let mut at = self.stack.len();
        while at > 0
            && self
                .stack
                .get(at - 1)
                .is_some_and(|entry| entry.first >= first)
        {
            at -= 1;
        }
        at
    }

    fn push_text(&mut self, bytes: &[u8]) -> Range {
        let start = self.ast.text.len() as u32;
        self.ast.text.extend_from_slice(bytes);
        Range {
            start,
            end: self.ast.text.len() as u32,
        }
    }

    fn literal(&mut self, first: u32, end: u32) {
        let bytes = self.token_bytes(first);
        let expr = match self.token(first).kind {
            INT => Expr::Int(lexer::parse_int(bytes).unwrap_or(0)),
            FLOAT => Expr::Float(lexer::parse_float(bytes).unwrap_or(0.0)),
            SEARCH_PATH => {
                let inner = bytes.get(1..bytes.len() - 1).unwrap_or_default();
                Expr::SearchPath(self.push_text(inner))
            }
            _ => Expr::Str(self.push_text(bytes)),
        };
        self.expr(expr, first, end);
    }

    fn path(&mut self, first: u32, end: u32) {
        let start = self.token(first);
        let kind = match self.source.get(start.start as usize) {
            Some(b'/') => PathKind::Absolute,
            Some(b'~') => PathKind::Home,
            _ => PathKind::Relative,
        };
        if start.kind == PATH {
            let text = self.push_text(self.token_bytes(first));
            self.expr(Expr::Path(kind, text), first, end);
            return;
        }
        let children = self.children(first);
        let parts_start = self.ast.parts.len() as u32;
        let mut at = first + 1;
        let mut child = children;
        while at < end {
            if let Some((id, after)) = self.interpolation(child, at) {
                self.ast.parts.push(Part::Expr(id));
                child += 1;
                at = after;
                continue;
            }
            if self.token(at).kind == PATH_TEXT {
                let text = self.push_text(self.token_bytes(at));
                self.ast.parts.push(Part::Text(text));
            }
            at += 1;
        }
        self.stack.truncate(children);
        let parts = Range {
            start: parts_start,
            end: self.ast.parts.len() as u32,
        };
        self.expr(Expr::PathInterpolation(kind, parts), first, end);
    }

    /// If the entry `child` of the stack is an interpolation that begins at token `at`: its expression and
    /// the token after it.
    fn interpolation(&self, child: usize, at: u32) -> Option<(ExprId, u32)> {
        let entry = self.stack.get(child)?;
        match entry.item {
            Item::Interpolation(id) if entry.first == at => Some((id, entry.end)),
            _ => None,
        }
    }

    fn string(&mut self, first: u32, end: u32) {
        let children = self.children(first);
        if children == self.stack.len() {
            // No interpolation: at most one token of text.
            let start = self.ast.text.len() as u32;
            for index in first + 1..end.saturating_sub(1) {
                strings::unescape(self.token_bytes(index), &mut self.ast.text);
            }
            let text = Range {
                start,
                end: self.ast.text.len() as u32,
            };
            self.expr(Expr::Str(text), first, end);
            return;
        }
        let parts_start = self.ast.parts.len() as u32;
        let mut at = first + 1;
        let mut child = children;
        while at < end {
            if let Some((id, after)) = self.interpolation(child, at) {
                self.ast.parts.push(Part::Expr(id));
                child += 1;
                at = after;
                continue;
            }
            if self.token(at).kind == STRING_TEXT {
                let start = self.ast.text.len() as u32;
                strings::unescape(self.token_bytes(at), &mut self.ast.text);
                self.ast.parts.push(Part::Text(Range {
                    start,
                    end: self.ast.text.len() as u32,
                }));
            }
            at += 1;
        }
        self.stack.truncate(children);
        let parts = Range {
            start: parts_start,
            end: self.ast.parts.len() as u32,
        };
        self.expr(Expr::Interpolation(parts), first, end);
    }

    fn indented_string(&mut self, first: u32, end: u32) {
        let children = self.children(first);
        let mut segments = std::mem::take(&mut self.segments);
        segments.clear();
        let mut at = first + 1;
        let mut child = children;
        while at < end {
            if let Some((id, after)) = self.interpolation(child, at) {
                segments.push(Segment::Expr(id));
                child += 1;
                at = after;
                continue;
            }
            let token = self.token(at);
            match token.kind {
                IND_STRING_TEXT => segments.push(Segment::Text(token.span())),
                IND_STRING_ESCAPE => segments.push(Segment::Escape(token.span())),
                _ => {}
            }
            at += 1;
        }
        self.stack.truncate(children);
        let parts_start = self.ast.parts.len();
        strings::strip_indentation(
            self.source,
            &segments,
            &mut self.ast.text,
            &mut self.ast.parts,
        );
        self.segments = segments;
        let expr = match self.ast.parts.get(parts_start..).unwrap_or_default() {
            [] => Expr::Str(self.push_text(b"")),
            [Part::Text(text)] => {
                let text = *text;
                self.ast.parts.truncate(parts_start);
                Expr::Str(text)
            }
            _ => Expr::Interpolation(Range {
                start: parts_start as u32,
                end: self.ast.parts.len() as u32,
            }),
        };
        self.expr(expr, first, end);
    }

    /// Turns the entries from `at` on, all of them expressions, into a range of `lists`.
    fn list_from(&mut self, at: usize) -> Range {
        let start = self.ast.lists.len() as u32;
        for entry in self.stack.drain(at.min(self.stack.len())..) {
            if let Item::Expr(id) = entry.item {
                self.ast.lists.push(id);
            }
        }
        Range {
            start,
            end: self.ast.lists.len() as u32,
        }
    }

    /// The function and arguments of applying `function` to `args`, which are the end of `lists`.
    ///
    /// `(f a) b` is one application, as in C++ Nix.
    fn call(&mut self, function: ExprId, args: Range) -> Expr {
        if let Some(Expr::Call {
            function: inner,
            args: before,
        }) = self.ast.exprs.get(function.0 as usize).copied()
            && before.len() + args.len() <= LONGEST_JOINED_CALL
        {
            if before.end == args.start {
                return Expr::Call {
                    function: inner,
                    args: Range {
                        start: before.start,
                        end: args.end,
                    },
                };
            }
            let start = self.ast.lists.len();
            self.ast.lists.extend_from_within(before.indices());
            self.ast.lists.extend_from_within(args.indices());
            return Expr::Call {
                function: inner,
                args: Range {
                    start: start as u32,
                    end: self.ast.lists.len() as u32,
                },
            };
        }
        Expr::Call { function, args }
    }

    fn apply(&mut self, first: u32, end: u32) {
        let children = self.children(first);
        let args = self.list_from(children + 1);
        let (function, _) = self.pop_expr();
        let call = self.call(function, args);
        self.expr(call, first, end);
    }

    fn apply_or(&mut self, first: u32, end: u32) {
        let (function, _) = self.pop_expr();
        let name = self.intern(end - 1);
        let span = self.token_span(end - 1, end);
        let or = self.push_expr(Expr::Var(name), span);
        let start = self.ast.lists.len() as u32;
        self.ast.lists.push(or);
        let args = Range {
            start,
            end: start + 1,
        };
        // Not joined with an application in parentheses, unlike other arguments.
        self.expr(Expr::Call { function, args }, first, end);
    }

    fn pipe(&mut self, first: u32, end: u32) {
        let (right, right_first) = self.pop_expr();
        let (left, _) = self.pop_expr();
        let operator = self.token(right_first.saturating_sub(1));
        let (function, arg) = if operator.kind == PIPE_FROM {
            (left, right)
        } else {
            (right, left)
        };
        if !self.pipe_operators {
            self.errors.push(SyntaxError::new(
                SyntaxErrorKind::FeatureDisabled,
                "experimental Nix feature 'pipe-operators' is disabled; add '--extra-experimental-features pipe-operators' to \
                 enable it",
                operator.span(),
            ));
        }
        let start = self.ast.lists.len() as u32;
        self.ast.lists.push(arg);
        let args = Range {
            start,
            end: start + 1,
        };
        let call = self.call(function, args);
        self.expr(call, first, end);
    }

    /// The component of an attribute path that an entry stands for.
    pub(crate) fn component(&mut self, entry: Entry) -> AttrName {
        match entry.item {
            Item::Name(name) => AttrName::Static(name, self.token_span(entry.first, entry.end)),
            Item::Expr(id) | Item::Interpolation(id) => {
                if let Some(Expr::Str(range)) = self.ast.exprs.get(id.0 as usize) {
                    let text = self.ast.text.get(range.indices()).unwrap_or_default();
                    if let Some(name) = self.names.intern(text) {
                        return AttrName::Static(name, self.token_span(entry.first, entry.end));
                    }
                }
                AttrName::Dynamic(id)
            }
            _ => AttrName::Dynamic(ExprId(0)),
        }
    }

    /// Turns the entries `from..to` into a range of `attr_names`.
    fn attr_names(&mut self, from: usize, to: usize) -> Range {
        let start = self.ast.attr_names.len() as u32;
        for index in from..to {
            if let Some(entry) = self.stack.get(index).copied() {
                let component = self.component(entry);
                self.ast.attr_names.push(component);
            }
        }
        Range {
            start,
            end: self.ast.attr_names.len() as u32,
        }
    }

    fn select(&mut self, first: u32, end: u32) {
        let children = self.children(first);
        let path = self.attr_names(children + 1, self.stack.len());
        self.stack.truncate(children + 1);
        let (set, _) = self.pop_expr();
        self.expr(Expr::Select { set, path }, first, end);
    }

    fn has_attr(&mut self, first: u32, end: u32) {
        let children = self.children(first);
        let path = self.attr_names(children + 1, self.stack.len());
        self.stack.truncate(children + 1);
        let (set, _) = self.pop_expr();
        self.expr(Expr::HasAttr { set, path }, first, end);
    }

    fn select_or(&mut self, first: u32, end: u32) {
        let (default, _) = self.pop_expr();
        let children = self.children(first);
        let path = self.attr_names(children + 1, self.stack.len());
        self.stack.truncate(children + 1);
        let (set, _) = self.pop_expr();
        let index = self.ast.select_ors.len() as u32;
        self.ast.select_ors.push(SelectOr { set, path, default });
        self.expr(Expr::SelectOr { index }, first, end);
    }

    fn unary(&mut self, first: u32, end: u32) {
        let (operand, _) = self.pop_expr();
        let expr = if self.token(first).kind == MINUS {
            Expr::Negate(operand)
        } else {
            Expr::Not(operand)
        };
        self.expr(expr, first, end);
    }

    fn binary(&mut self, first: u32, end: u32) {
        let (right, right_first) = self.pop_expr();
        let (left, _) = self.pop_expr();
        let op = match self.token(right_first.saturating_sub(1)).kind {
            PLUS => BinaryOp::Add,
            MINUS => BinaryOp::Sub,
            STAR => BinaryOp::Mul,
            SLASH => BinaryOp::Div,
            CONCAT => BinaryOp::Concat,
            UPDATE => BinaryOp::Update,
            EQ => BinaryOp::Eq,
            NE => BinaryOp::Ne,
            LT => BinaryOp::Lt,
            LE => BinaryOp::Le,
            GT => BinaryOp::Gt,
            GE => BinaryOp::Ge,
            AND => BinaryOp::And,
            OR => BinaryOp::Or,
            _ => BinaryOp::Implies,
        };
        self.expr(Expr::Binary { op, left, right }, first, end);
    }

    fn if_then_else(&mut self, first: u32, end: u32) {
        let (no, _) = self.pop_expr();
        let (yes, _) = self.pop_expr();
        let (condition, _) = self.pop_expr();
        self.expr(Expr::If { condition, yes, no }, first, end);
    }

    fn binding(&mut self, first: u32, end: u32) {
        let (value, _) = self.pop_expr();
        let children = self.children(first);
        if let [
            Entry {
                item: Item::Name(name),
                ..
            },
        ] = self.stack.get(children..).unwrap_or_default()
        {
            let name = *name;
            self.stack.truncate(children);
            self.push(Item::Simple(name, value), first, end);
            return;
        }
        let path_end = self.stack.last().map_or(first, |entry| entry.end);
        let start = self.components.len() as u32;
        for index in children..self.stack.len() {
            if let Some(entry) = self.stack.get(index).copied() {
                let component = self.component(entry);
                self.components.push(component);
            }
        }
        self.stack.truncate(children);
        let pending = Pending {
            path: Range {
                start,
                end: self.components.len() as u32,
            },
            span: self.token_span(first, path_end),
            value: PendingValue::Expr(value),
        };
        self.push_pending(pending, first, end);
    }

    fn push_pending(&mut self, pending: Pending, first: u32, end: u32) {
        let index = self.pending.len() as u32;
        self.pending.push(pending);
        self.push(Item::Binding(index), first, end);
    }

    fn inherit(&mut self, first: u32, end: u32, from: bool) {
        let children = self.children(first);
        let mut at = children;
        let mut value = PendingValue::Inherit;
        if from {
            if let Some(Entry {
                item: Item::Expr(id),
                ..
            }) = self.stack.get(at)
            {
                value = PendingValue::InheritFrom(*id);
            }
            at += 1;
        }
        let start = self.components.len() as u32;
        for index in at..self.stack.len() {
            let Some(entry) = self.stack.get(index).copied() else {
                continue;
            };
            match self.component(entry) {
                AttrName::Dynamic(id) => {
                    let span = self.token_span(entry.first, entry.end);
                    self.dynamic_name(id, span, "inherit");
                }
                component => self.components.push(component),
            }
        }
        self.stack.truncate(children);
        let pending = Pending {
            path: Range {
                start,
                end: self.components.len() as u32,
            },
            span: self.token_span(first, end),
            value,
        };
        self.push_pending(pending, first, end);
    }

    /// Reports a name that has to be known when parsing and is not.
    fn dynamic_name(&mut self, name: ExprId, span: Span, place: &str) {
        let (kind, message) = match self.ast.exprs.get(name.0 as usize) {
            Some(Expr::Str(_)) => (
                SyntaxErrorKind::InvalidName,
                format!("an attribute name in `{place}` has to be UTF-8"),
            ),
            _ => (
                SyntaxErrorKind::DynamicAttribute,
                format!("dynamic attributes not allowed in {place}"),
            ),
        };
        self.errors.push(SyntaxError::new(kind, message, span));
    }

    fn attr_set(&mut self, first: u32, end: u32) {
        let recursive = self.token(first).kind == REC_KW;
        let children = self.children(first);
        let bindings = self.bindings(children, recursive);
        self.expr(Expr::Attrs(bindings), first, end);
    }

    fn legacy_let(&mut self, first: u32, end: u32) {
        let children = self.children(first);
        let bindings = self.bindings(children, true);
        self.expr(Expr::LegacyLet(bindings), first, end);
    }

    fn let_in(&mut self, first: u32, end: u32) {
        let (body, _) = self.pop_expr();
        let children = self.children(first);
        let bindings = self.bindings(children, true);
        let dynamic = self
            .ast
            .bindings
            .get(bindings as usize)
            .map_or(Range::default(), |bindings| bindings.dynamic);
        for index in dynamic.indices() {
            if let Some(attr) = self.ast.dynamic_attrs.get(index).copied() {
                self.dynamic_name(attr.name, attr.span, "let");
            }
        }
        self.expr(Expr::Let { bindings, body }, first, end);
    }

    fn formal(&mut self, first: u32, end: u32) {
        let default = (end > first + 1).then(|| self.pop_expr().0);
        let formal = Formal {
            name: self.intern(first),
            span: self.token(first).span(),
            default,
        };
        self.push(Item::Formal(formal), first, end);
    }

    fn pattern(&mut self, first: u32, end: u32) {
        let children = self.children(first);
        let start = self.ast.formals.len();
        for entry in self.stack.drain(children..) {
            if let Item::Formal(formal) = entry.item {
                self.ast.formals.push(formal);
            }
        }
        let ellipsis = self.token(end.saturating_sub(2)).kind == ELLIPSIS;
        let formals = Range {
            start: start as u32,
            end: self.ast.formals.len() as u32,
        };
        self.check_formals(formals);
        self.push(Item::Pattern(formals, ellipsis), first, end);
    }

    fn check_formals(&mut self, formals: Range) {
        let formals = self.ast.formals.get(formals.indices()).unwrap_or_default();
        self.merger.begin();
        for (index, formal) in (0u32..).zip(formals) {
            if let Some(before) = self.merger.mark(formal.name, index) {
                let before = formals
                    .get(before as usize)
                    .map_or(formal.span, |formal| formal.span);
                self.errors.push(duplicate_formal(
                    &self.names,
                    formal.name,
                    formal.span,
                    before,
                ));
            }
        }
    }

    fn lambda(&mut self, first: u32, end: u32) {
        let (body, _) = self.pop_expr();
        let mut lambda = Lambda {
            param: None,
            formals: None,
            ellipsis: false,
            body,
        };
        let mut param = None;
        if self.token(first).kind == IDENT {
            param = Some(first);
        }
        if let Some(Entry {
            item: Item::Pattern(formals, ellipsis),
            first: pattern_first,
            end: pattern_end,
        }) = self.stack.last().copied()
            && pattern_first >= first
        {
            self.stack.pop();
            lambda.formals = Some(formals);
            lambda.ellipsis = ellipsis;
            if self.token(pattern_end).kind == AT {
                param = Some(pattern_end + 1);
            }
        }
        if let Some(token) = param {
            let name = self.intern(token);
            lambda.param = Some(name);
            let formals = lambda.formals.unwrap_or_default();
            let formals = self.ast.formals.get(formals.indices()).unwrap_or_default();
            if let Some(formal) = formals.iter().find(|formal| formal.name == name) {
                let span = self.token(token).span();
                self.errors
                    .push(duplicate_formal(&self.names, name, span, formal.span));
            }
        }
        let index = self.ast.lambdas.len() as u32;
        self.ast.lambdas.push(lambda);
        self.expr(Expr::Lambda(index), first, end);
    }
}

fn duplicate_formal(names: &Interner, name: Name, span: Span, before: Span) -> SyntaxError {
    let name = names
        .names
        .get(name.0 as usize)
        .map_or("", |name| name.as_str());
    SyntaxError::new(
        SyntaxErrorKind::DuplicateFormal,
        format!("duplicate formal function argument '{name}'"),
        span,
    )
    .with_related(before, "first named here")
}

impl Sink for CodeSink<'_> {
    #[inline]
    fn node(&mut self, kind: SyntaxKind, first: u32, end: u32) {
        match kind {
            VARIABLE => {
                let bytes = self.token_bytes(first);
                let expr = if bytes == b"__curPos" {
                    Expr::CurPos
                } else {
                    Expr::Var(self.names.intern(bytes).unwrap_or(Name(0)))
                };
                self.expr(expr, first, end);
            }
            NAME => {
                let name = self.intern(first);
                self.push(Item::Name(name), first, end);
            }
            LITERAL => self.literal(first, end),
            PATH_EXPR => self.path(first, end),
            STRING => self.string(first, end),
            IND_STRING => self.indented_string(first, end),
            INTERPOLATION => {
                let (id, _) = self.pop_expr();
                self.push(Item::Interpolation(id), first, end);
            }
            PAREN => {
                if let Some(entry) = self.stack.last_mut() {
                    entry.first = first;
                    entry.end = end;
                }
            }
            LIST => {
                let children = self.children(first);
                let list = self.list_from(children);
                self.expr(Expr::List(list), first, end);
            }
            ATTR_SET => self.attr_set(first, end),
            LEGACY_LET => self.legacy_let(first, end),
            LET => self.let_in(first, end),
            BINDING => self.binding(first, end),
            INHERIT => self.inherit(first, end, false),
            INHERIT_FROM => self.inherit(first, end, true),
            SELECT => self.select(first, end),
            SELECT_OR => self.select_or(first, end),
            APPLY_OR => self.apply_or(first, end),
            APPLY => self.apply(first, end),
            HAS_ATTR => self.has_attr(first, end),
            UNARY => self.unary(first, end),
            BINARY => self.binary(first, end),
            PIPE => self.pipe(first, end),
            IF => self.if_then_else(first, end),
            WITH => {
                let (body, _) = self.pop_expr();
                let (set, _) = self.pop_expr();
                self.expr(Expr::With { set, body }, first, end);
            }
            ASSERT => {
                let (body, _) = self.pop_expr();
                let (condition, _) = self.pop_expr();
                self.expr(Expr::Assert { condition, body }, first, end);
            }
            LAMBDA => self.lambda(first, end),
            PATTERN => self.pattern(first, end),
            FORMAL => self.formal(first, end),
            _ => {}
        }
    }
}
