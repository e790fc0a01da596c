//! Typed views of the nodes of the lossless tree.
//!
//! A view is a node whose kind is known. What a view hands out is optional throughout, for the source may be
//! wrong or unfinished.

use crate::kind::SyntaxKind::{self, *};
use crate::tree::{SyntaxElement, SyntaxNode, SyntaxToken};

/// A typed view of a node.
pub trait AstNode: Sized {
    /// Whether nodes of this kind have such a view.
    fn can_cast(kind: SyntaxKind) -> bool;

    /// The view of a node, if its kind fits.
    fn cast(node: SyntaxNode) -> Option<Self>;

    /// The node itself.
    fn syntax(&self) -> &SyntaxNode;

    /// The doc comment `/** … */` directly before the node, if there is one: only whitespace and other
    /// comments may be in between.
    ///
    /// For a binding or a function that is what documents it, except that the function in
    /// `/** … */ f = x: x` is documented through its binding.
    fn doc_comment(&self) -> Option<SyntaxToken> {
        self.comments_before()
            .find(|token| token.kind() == DOC_COMMENT)
    }

    /// The comments directly before the node, the last one first.
    fn comments_before(&self) -> impl Iterator<Item = SyntaxToken> {
        let first = self.syntax().first_token();
        std::iter::successors(first.and_then(|token| token.prev_token()), |token| {
            token.prev_token()
        })
        .take_while(|token| token.kind().is_trivia())
        .filter(|token| token.kind() != WHITESPACE)
    }
}

fn child<N: AstNode>(node: &SyntaxNode) -> Option<N> {
    node.children().find_map(N::cast)
}

fn nth<N: AstNode>(node: &SyntaxNode, index: usize) -> Option<N> {
    node.children().filter_map(N::cast).nth(index)
}

fn children<N: AstNode>(node: &SyntaxNode) -> impl Iterator<Item = N> + use<N> {
    node.children().filter_map(N::cast)
}

fn token(node: &SyntaxNode, kinds: &[SyntaxKind]) -> Option<SyntaxToken> {
    node.children_with_tokens()
        .filter_map(SyntaxElement::into_token)
        .find(|token| kinds.contains(&token.kind()))
}

/// The first child after a token of the node itself.
fn child_after<N: AstNode>(node: &SyntaxNode, kind: SyntaxKind) -> Option<N> {
    node.children_with_tokens()
        .skip_while(|element| element.kind() != kind)
        .filter_map(SyntaxElement::into_node)
        .find_map(N::cast)
}

macro_rules! views {
    ($($(#[$doc:meta])* $name:ident = $kind:ident;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, Debug)]
        pub struct $name {
            node: SyntaxNode,
        }

        impl AstNode for $name {
            fn can_cast(kind: SyntaxKind) -> bool {
                kind == $kind
            }
            fn cast(node: SyntaxNode) -> Option<Self> {
                (node.kind() == $kind).then_some($name { node })
            }
            fn syntax(&self) -> &SyntaxNode {
                &self.node
            }
        }
    )*};
}

macro_rules! choices {
    ($($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident,)* })*) => {$(
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, Debug)]
        pub enum $name {
            $($(#[$variant_doc])* $variant($variant),)*
        }

        impl AstNode for $name {
            fn can_cast(kind: SyntaxKind) -> bool {
                false $(|| $variant::can_cast(kind))*
            }
            fn cast(node: SyntaxNode) -> Option<Self> {
                $(if $variant::can_cast(node.kind()) {
                    return $variant::cast(node).map($name::$variant);
                })*
                None
            }
            fn syntax(&self) -> &SyntaxNode {
                match self {
                    $($name::$variant(view) => view.syntax(),)*
                }
            }
        }
    )*};
}

views! {
    /// A whole file.
    Root = ROOT;
    /// Tokens that fit nowhere, and nodes that belong to nothing.
    Error = ERROR;
    /// An identifier as an expression, `__curPos` among them.
    Variable = VARIABLE;
    /// An integer, float, URI or search path.
    Literal = LITERAL;
    /// A path, with or without interpolation.
    Path = PATH_EXPR;
    /// `"…"`
    Str = STRING;
    /// `''…''`
    IndentedStr = IND_STRING;
    /// `${ … }`
    Interpolation = INTERPOLATION;
    /// `( … )`
    Paren = PAREN;
    /// `[ … ]`
    List = LIST;
    /// `{ … }` or `rec { … }`
    AttrSet = ATTR_SET;
    /// `let { … }`
    LegacyLet = LEGACY_LET;
    /// `let … in …`
    LetIn = LET;
    /// `path = value;`
    Binding = BINDING;
    /// `inherit a b;` or `inherit (e) a b;`
    Inherit = INHERIT;
    /// `a.b.c`, as what is bound, selected or tested.
    AttrPath = ATTR_PATH;
    /// An identifier as an attribute name.
    Name = NAME;
    /// `e.path` or `e.path or default`
    Select = SELECT;
    /// `f or`, an application to the variable `or`.
    ApplyOr = APPLY_OR;
    /// `f a b`
    Apply = APPLY;
    /// `e ? path`
    HasAttr = HAS_ATTR;
    /// `!e` or `-e`
    Unary = UNARY;
    /// `a op b`
    Binary = BINARY;
    /// `a |> f` or `f <| a`
    Pipe = PIPE;
    /// `if a then b else c`
    IfElse = IF;
    /// `with e; body`
    With = WITH;
    /// `assert e; body`
    Assert = ASSERT;
    /// `x: body` or `{ … }: body`
    Lambda = LAMBDA;
    /// `{ a, b ? c, ... }` of a function.
    Pattern = PATTERN;
    /// `a` or `a ? default` in a pattern.
    Formal = FORMAL;
}

choices! {
    /// An expression.
    Expr {
        /// Not an expression, but where one should be.
        Error,
        /// An identifier.
        Variable,
        /// An integer, float, URI or search path.
        Literal,
        /// A path.
        Path,
        /// A string.
        Str,
        /// An indented string.
        IndentedStr,
        /// An expression in parentheses.
        Paren,
        /// A list.
        List,
        /// An attribute set.
        AttrSet,
        /// An old `let`.
        LegacyLet,
        /// A `let`.
        LetIn,
        /// A selection.
        Select,
        /// An application to the variable `or`.
        ApplyOr,
        /// An application.
        Apply,
        /// A test for an attribute.
        HasAttr,
        /// A prefix operator.
        Unary,
        /// An infix operator.
        Binary,
        /// A pipe.
        Pipe,
        /// A conditional.
        IfElse,
        /// A `with`.
        With,
        /// An `assert`.
        Assert,
        /// A function.
        Lambda,
    }

    /// A part of an attribute path, or an inherited name.
    AttrName {
        /// An identifier.
        Name,
        /// A string, with or without interpolation.
        Str,
        /// `${ … }`
        Interpolation,
    }

    /// What is between the braces of a set, or after `let`.
    Entry {
        /// `path = value;`
        Binding,
        /// `inherit …;`
        Inherit,
    }
}

impl Root {
    /// The view of a node known to be the root.
    pub(crate) fn of(node: SyntaxNode) -> Self {
        Root { node }
    }

    /// The expression that the file consists of.
    pub fn expr(&self) -> Option<Expr> {
        child(&self.node)
    }
}

impl Variable {
    /// The identifier.
    pub fn token(&self) -> Option<SyntaxToken> {
        token(&self.node, &[IDENT])
    }
}

impl Literal {
    /// The literal; its kind says what it is.
    pub fn token(&self) -> Option<SyntaxToken> {
        token(&self.node, &[INT, FLOAT, URI, SEARCH_PATH])
    }
}

impl Path {
    /// The literal pieces: one token if nothing is interpolated.
    pub fn texts(&self) -> impl Iterator<Item = SyntaxToken> + use<> {
        self.node
            .children_with_tokens()
            .filter_map(SyntaxElement::into_token)
            .filter(|token| matches!(token.kind(), PATH | PATH_TEXT))
    }

    /// The interpolations.
    pub fn interpolations(&self) -> impl Iterator<Item = Interpolation> + use<> {
        children(&self.node)
    }
}

/// A piece of a string.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum StrPart {
    /// Text as written, with its escapes.
    Text(SyntaxToken),
    /// `${ … }`
    Interpolation(Interpolation),
}

fn parts(node: &SyntaxNode) -> impl Iterator<Item = StrPart> + use<> {
    node.children_with_tokens()
        .filter_map(|element| match element {
            SyntaxElement::Node(node) => Interpolation::cast(node).map(StrPart::Interpolation),
            SyntaxElement::Token(token) => matches!(
                token.kind(),
                STRING_TEXT | IND_STRING_TEXT | IND_STRING_ESCAPE
            )
            .then_some(StrPart::Text(token)),
        })
}

impl Str {
    /// What is between the quotes.
    pub fn parts(&self) -> impl Iterator<Item = StrPart> + use<> {
        parts(&self.node)
    }
}

impl IndentedStr {
    /// What is between the quotes, indentation included.
    pub fn parts(&self) -> impl Iterator<Item = StrPart> + use<> {
        parts(&self.node)
    }
}

impl Interpolation {
    /// The expression.
    pub fn expr(&self) -> Option<Expr> {
        child(&self.node)
    }
}

impl Paren {
    /// The expression.
    pub fn expr(&self) -> Option<Expr> {
        child(&self.node)
    }
}

impl List {
    /// The elements.
    pub fn elements(&self) -> impl Iterator<Item = Expr> + use<> {
        children(&self.node)
    }
}

impl AttrSet {
    /// The `rec`, if there is one.
    pub fn rec_token(&self) -> Option<SyntaxToken> {
        token(&self.node, &[REC_KW])
    }

    /// Bindings and `inherit`s.
    pub fn entries(&self) -> impl Iterator<Item = Entry> + use<> {
        children(&self.node)
    }
}

impl LegacyLet {
    /// Bindings and `inherit`s.
    pub fn entries(&self) -> impl Iterator<Item = Entry> + use<> {
        children(&self.node)
    }
}

impl LetIn {
    /// Bindings and `inherit`s.
    pub fn entries(&self) -> impl Iterator<Item = Entry> + use<> {
        children(&self.node)
    }

    /// The expression after `in`.
    pub fn body(&self) -> Option<Expr> {
        child_after(&self.node, IN_KW)
    }
}

impl Binding {
    /// What is bound.
    pub fn path(&self) -> Option<AttrPath> {
        child(&self.node)
    }

    /// What it is bound to.
    pub fn value(&self) -> Option<Expr> {
        child_after(&self.node, ASSIGN)
    }
}

impl Inherit {
    /// `e` of `inherit (e) …;`.
    pub fn source(&self) -> Option<Expr> {
        child_after(&self.node, L_PAREN)
    }

    /// The inherited names.
    pub fn names(&self) -> impl Iterator<Item = AttrName> + use<> {
        let skip = usize::from(self.source().is_some());
        self.node.children().skip(skip).filter_map(AttrName::cast)
    }
}

impl AttrPath {
    /// The parts of the path.
    pub fn names(&self) -> impl Iterator<Item = AttrName> + use<> {
        children(&self.node)
    }
}

impl Name {
    /// The identifier, or `or`.
    pub fn token(&self) -> Option<SyntaxToken> {
        token(&self.node, &[IDENT, OR_KW])
    }
}

impl Select {
    /// What is selected from.
    pub fn set(&self) -> Option<Expr> {
        child(&self.node)
    }

    /// What is selected.
    pub fn path(&self) -> Option<AttrPath> {
        child(&self.node)
    }

    /// The value for when it is missing.
    pub fn default(&self) -> Option<Expr> {
        child_after(&self.node, OR_KW)
    }
}

impl ApplyOr {
    /// The function.
    pub fn function(&self) -> Option<Expr> {
        child(&self.node)
    }
}

impl Apply {
    /// The function.
    pub fn function(&self) -> Option<Expr> {
        child(&self.node)
    }

    /// The arguments, at least one in a source without errors.
    pub fn arguments(&self) -> impl Iterator<Item = Expr> + use<> {
        children(&self.node).skip(1)
    }
}

impl HasAttr {
    /// The set.
    pub fn set(&self) -> Option<Expr> {
        child(&self.node)
    }

    /// What is looked for.
    pub fn path(&self) -> Option<AttrPath> {
        child(&self.node)
    }
}

impl Unary {
    /// `!` or `-`.
    pub fn operator(&self) -> Option<SyntaxToken> {
        token(&self.node, &[NOT, MINUS])
    }

    /// The operand.
    pub fn operand(&self) -> Option<Expr> {
        child(&self.node)
    }
}

impl Binary {
    /// The operator.
    pub fn operator(&self) -> Option<SyntaxToken> {
        token(
            &self.node,
            &[
                EQ, NE, LT, LE, GT, GE, AND, OR, IMPLIES, PLUS, MINUS, STAR, SLASH, CONCAT, UPDATE,
            ],
        )
    }

    /// The left operand.
    pub fn left(&self) -> Option<Expr> {
        child(&self.node)
    }

    /// The right operand.
    pub fn right(&self) -> Option<Expr> {
        nth(&self.node, 1)
    }
}

impl Pipe {
    /// `|>` or `<|`.
    pub fn operator(&self) -> Option<SyntaxToken> {
        token(&self.node, &[PIPE_INTO, PIPE_FROM])
    }

    /// What is applied.
    pub fn function(&self) -> Option<Expr> {
        nth(&self.node, usize::from(self.flows_right()))
    }

    /// What it is applied to.
    pub fn argument(&self) -> Option<Expr> {
        nth(&self.node, usize::from(!self.flows_right()))
    }

    fn flows_right(&self) -> bool {
        self.operator()
            .is_some_and(|token| token.kind() == PIPE_INTO)
    }
}

impl IfElse {
    /// The condition.
    pub fn condition(&self) -> Option<Expr> {
        child_after(&self.node, IF_KW)
    }

    /// The value if it holds.
    pub fn then_branch(&self) -> Option<Expr> {
        child_after(&self.node, THEN_KW)
    }

    /// The value if it does not hold.
    pub fn else_branch(&self) -> Option<Expr> {
        child_after(&self.node, ELSE_KW)
    }
}

impl With {
    /// The set whose attributes become visible.
    pub fn set(&self) -> Option<Expr> {
        child(&self.node)
    }

    /// Where they are visible.
    pub fn body(&self) -> Option<Expr> {
        child_after(&self.node, SEMICOLON)
    }
}

impl Assert {
    /// The condition.
    pub fn condition(&self) -> Option<Expr> {
        child(&self.node)
    }

    /// The value if it holds.
    pub fn body(&self) -> Option<Expr> {
        child_after(&self.node, SEMICOLON)
    }
}

impl Lambda {
    /// `x` of `x: …`, `x@{ … }: …` and `{ … }@x: …`.
    pub fn param(&self) -> Option<SyntaxToken> {
        token(&self.node, &[IDENT])
    }

    /// The set pattern.
    pub fn pattern(&self) -> Option<Pattern> {
        child(&self.node)
    }

    /// The body.
    pub fn body(&self) -> Option<Expr> {
        child_after(&self.node, COLON)
    }
}

impl Pattern {
    /// The formals.
    pub fn formals(&self) -> impl Iterator<Item = Formal> + use<> {
        children(&self.node)
    }

    /// The `...`, if there is one.
    pub fn ellipsis(&self) -> Option<SyntaxToken> {
        token(&self.node, &[ELLIPSIS])
    }
}

impl Formal {
    /// Its name.
    pub fn name(&self) -> Option<SyntaxToken> {
        token(&self.node, &[IDENT])
    }

    /// The value when the caller gives none.
    pub fn default(&self) -> Option<Expr> {
        child(&self.node)
    }
}
