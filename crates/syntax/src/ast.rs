//! The abstract syntax that evaluation compiles: a compact arena, one per file.
//!
//! Nodes are `Copy` and refer to each other by index, so that building an [`Ast`] is a sequence of
//! pushes and dropping it is a handful of frees. Everything that has a length lives in a side array
//! and is named by a [`Range`]. Attribute paths are already merged and duplicates already rejected:
//! a [`Bindings`] is what the evaluator builds, not what the user wrote (the lossless tree keeps that).

use smol_str::SmolStr;

/// Index of an expression in [`Ast::exprs`].
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd, Ord)]
pub struct ExprId(pub u32);

/// Index of an identifier in [`Ast::names`]; equal names in one file have equal indices.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd, Ord)]
pub struct Name(pub u32);

/// A byte range of the source.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Span {
    /// First byte.
    pub start: u32,
    /// One past the last byte.
    pub end: u32,
}

/// A half-open range `start..end` of indices into one of the side arrays.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Range {
    /// First index.
    pub start: u32,
    /// One past the last index.
    pub end: u32,
}

impl Range {
    /// Number of elements.
    pub fn len(self) -> usize {
        (self.end - self.start) as usize
    }
    /// Whether the range has no elements.
    pub fn is_empty(self) -> bool {
        self.start == self.end
    }
    /// As a range that indexes slices.
    pub fn indices(self) -> std::ops::Range<usize> {
        self.start as usize..self.end as usize
    }
}

/// What a path literal is relative to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PathKind {
    /// `/etc/hosts`
    Absolute,
    /// `./a`, `../a`, `a/b`: relative to the folder of the file.
    Relative,
    /// `~/a`: relative to the user's home. The text keeps the `~`.
    Home,
}

/// Binary operators that are not desugared by the parser.
///
/// The arithmetic and order operators mean calls of `__sub`, `__mul`, `__div` and `__lessThan` as
/// found in scope; the compiler does that, since only it knows the scope.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BinaryOp {
    /// `+`
    Add,
    /// `-`
    Sub,
    /// `*`
    Mul,
    /// `/`
    Div,
    /// `++`
    Concat,
    /// `//`
    Update,
    /// `==`
    Eq,
    /// `!=`
    Ne,
    /// `<`
    Lt,
    /// `<=`
    Le,
    /// `>`
    Gt,
    /// `>=`
    Ge,
    /// `&&`
    And,
    /// `||`
    Or,
    /// `->`
    Implies,
}

/// An expression. Its span is `Ast::spans[id]`.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Expr {
    /// Integer literal.
    Int(i64),
    /// Float literal.
    Float(f64),
    /// String (or URI) without interpolation; a range of [`Ast::text`], escapes resolved.
    Str(Range),
    /// String with interpolation; a range of [`Ast::parts`].
    Interpolation(Range),
    /// Path literal as written; a range of [`Ast::text`].
    Path(PathKind, Range),
    /// Path with interpolation; a range of [`Ast::parts`] whose first part is always text.
    PathInterpolation(PathKind, Range),
    /// `<nixpkgs/lib>`, without the angle brackets; a range of [`Ast::text`].
    SearchPath(Range),
    /// An identifier.
    Var(Name),
    /// `__curPos`: the position of the expression itself.
    CurPos,
    /// `set.path` or `set.path or default`.
    Select {
        /// What is selected from.
        set: ExprId,
        /// Range of [`Ast::attr_names`], never empty.
        path: Range,
    },
    /// `set.path or default`.
    SelectOr {
        /// Index into [`Ast::select_ors`].
        index: u32,
    },
    /// `set ? path`.
    HasAttr {
        /// The set.
        set: ExprId,
        /// Range of [`Ast::attr_names`], never empty.
        path: Range,
    },
    /// `f a b c`: all arguments of one application chain; a range of [`Ast::lists`].
    Call {
        /// The function.
        function: ExprId,
        /// The arguments, never empty.
        args: Range,
    },
    /// `[ a b ]`; a range of [`Ast::lists`].
    List(Range),
    /// `{ … }` or `rec { … }`; index into [`Ast::bindings`].
    Attrs(u32),
    /// `let … in body`; index into [`Ast::bindings`] (its `recursive` is set).
    Let {
        /// Index into [`Ast::bindings`].
        bindings: u32,
        /// The body.
        body: ExprId,
    },
    /// Old `let { …; body = e; }`, meaning `(rec { … }).body`; index into [`Ast::bindings`].
    LegacyLet(u32),
    /// `with set; body`
    With {
        /// The set whose attributes become visible.
        set: ExprId,
        /// The body.
        body: ExprId,
    },
    /// `assert condition; body`
    Assert {
        /// The condition.
        condition: ExprId,
        /// The body.
        body: ExprId,
    },
    /// `if condition then yes else no`
    If {
        /// The condition.
        condition: ExprId,
        /// Value when true.
        yes: ExprId,
        /// Value when false.
        no: ExprId,
    },
    /// A function; index into [`Ast::lambdas`].
    Lambda(u32),
    /// `!e`
    Not(ExprId),
    /// `-e`
    Negate(ExprId),
    /// `a op b`
    Binary {
        /// The operator.
        op: BinaryOp,
        /// Left operand.
        left: ExprId,
        /// Right operand.
        right: ExprId,
    },
}

/// `set.path or default`, out of line to keep [`Expr`] small.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct SelectOr {
    /// What is selected from.
    pub set: ExprId,
    /// Range of [`Ast::attr_names`], never empty.
    pub path: Range,
    /// Value when any part of the path is missing.
    pub default: ExprId,
}

/// A piece of an interpolated string or path.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Part {
    /// Literal text; a range of [`Ast::text`].
    Text(Range),
    /// `${e}`
    Expr(ExprId),
}

/// One component of an attribute path in a selection.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum AttrName {
    /// `a`, or a string literal without interpolation.
    Static(Name, Span),
    /// `${e}` or an interpolated string.
    Dynamic(ExprId),
}

/// What an attribute is bound to.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum AttrValue {
    /// `a = e`: evaluated in the scope of the bindings when they are recursive.
    Plain(ExprId),
    /// `inherit a`: the variable `a` of the *enclosing* scope. The expression is an [`Expr::Var`].
    Inherit(ExprId),
    /// `inherit (x) a`: attribute `a` of `from[index]` (index within this binding set).
    InheritFrom(u32),
}

/// A statically named attribute.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Attr {
    /// Its name.
    pub name: Name,
    /// Where it is defined (what `builtins.unsafeGetAttrPos` reports starts here).
    pub span: Span,
    /// Its value.
    pub value: AttrValue,
}

/// An attribute whose name is computed.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct DynamicAttr {
    /// The name: a string, or null to leave the attribute out.
    pub name: ExprId,
    /// The value.
    pub value: ExprId,
    /// Where it is defined.
    pub span: Span,
}

/// The contents of `{ }`, `rec { }` or `let`, with nested attribute paths merged.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Bindings {
    /// Whether the attributes are in scope of each other.
    pub recursive: bool,
    /// Static attributes without duplicates, in source order; a range of [`Ast::attrs`].
    pub attrs: Range,
    /// Computed attributes in source order; a range of [`Ast::dynamic_attrs`].
    pub dynamic: Range,
    /// The `x` of each `inherit (x) …`; a range of [`Ast::lists`]. Each is evaluated at most once, in
    /// the scope of the bindings when they are recursive.
    pub from: Range,
}

/// A formal of a set pattern.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Formal {
    /// Its name.
    pub name: Name,
    /// Where it is named.
    pub span: Span,
    /// Value when the caller gives none.
    pub default: Option<ExprId>,
}

/// A function.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Lambda {
    /// `x` of `x: …`, or of `x@{ … }:` and `{ … }@x:`.
    pub param: Option<Name>,
    /// The set pattern, in source order; a range of [`Ast::formals`]. `None` for `x: …`.
    pub formals: Option<Range>,
    /// Whether the pattern ends in `...`.
    pub ellipsis: bool,
    /// The body.
    pub body: ExprId,
}

/// A parsed file, ready to be compiled.
#[derive(Clone, Debug, Default)]
pub struct Ast {
    /// The whole file's expression.
    pub root: Option<ExprId>,
    /// All expressions; children come before their parents.
    pub exprs: Vec<Expr>,
    /// The span of each expression.
    pub spans: Vec<Span>,
    /// Distinct identifiers and static attribute names. A static attribute name may hold any text.
    pub names: Vec<SmolStr>,
    /// Bytes of string and path literals.
    pub text: Vec<u8>,
    /// Pieces of interpolations.
    pub parts: Vec<Part>,
    /// Lists, arguments and `inherit` sources.
    pub lists: Vec<ExprId>,
    /// Components of attribute paths in selections.
    pub attr_names: Vec<AttrName>,
    /// Out-of-line selections with default.
    pub select_ors: Vec<SelectOr>,
    /// Binding sets.
    pub bindings: Vec<Bindings>,
    /// Static attributes of binding sets.
    pub attrs: Vec<Attr>,
    /// Computed attributes of binding sets.
    pub dynamic_attrs: Vec<DynamicAttr>,
    /// Functions.
    pub lambdas: Vec<Lambda>,
    /// Formals of functions.
    pub formals: Vec<Formal>,
}

impl Ast {
    /// Empties everything and keeps the memory.
    pub(crate) fn clear(&mut self) {
        let Ast {
            root,
            exprs,
            spans,
            names,
            text,
            parts,
            lists,
            attr_names,
            select_ors,
            bindings,
            attrs,
            dynamic_attrs,
            lambdas,
            formals,
        } = self;
        *root = None;
        exprs.clear();
        spans.clear();
        names.clear();
        text.clear();
        parts.clear();
        lists.clear();
        attr_names.clear();
        select_ors.clear();
        bindings.clear();
        attrs.clear();
        dynamic_attrs.clear();
        lambdas.clear();
        formals.clear();
    }

    /// The expression behind an id.
    pub fn expr(&self, id: ExprId) -> Expr {
        self.exprs[id.0 as usize]
    }
    /// The span of an expression.
    pub fn span(&self, id: ExprId) -> Span {
        self.spans[id.0 as usize]
    }
}
