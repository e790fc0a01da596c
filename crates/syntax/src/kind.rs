//! Kinds of tokens and of tree nodes.

use logos::Logos;

/// The kind of a token or of a node: one byte, so that parser tables and token lists stay small.
///
/// Kinds before [`SyntaxKind::ROOT`] are tokens, the others are nodes.
#[derive(Logos, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[logos(utf8 = false)]
#[logos(subpattern pathchar = r"[a-zA-Z0-9._+\-]")]
#[allow(non_camel_case_types)]
#[repr(u8)]
pub enum SyntaxKind {
    // Trivia.
    /// Spaces, tabs, line feeds, carriage returns.
    #[regex(r"[ \t\r\n]+")]
    WHITESPACE,
    /// `# …` up to the end of the line.
    #[token("#")]
    LINE_COMMENT,
    /// `/* … */`
    #[token("/*")]
    BLOCK_COMMENT,
    /// `/** … */`: documents what follows.
    DOC_COMMENT,
    /// Bytes that begin no token.
    ERROR_TOKEN,

    // Names and keywords.
    /// An identifier.
    #[regex(r"[a-zA-Z_][a-zA-Z0-9_'\-]*", priority = 3)]
    IDENT,
    /// `if`
    #[token("if", priority = 10)]
    IF_KW,
    /// `then`
    #[token("then", priority = 10)]
    THEN_KW,
    /// `else`
    #[token("else", priority = 10)]
    ELSE_KW,
    /// `assert`
    #[token("assert", priority = 20)]
    ASSERT_KW,
    /// `with`
    #[token("with", priority = 10)]
    WITH_KW,
    /// `let`
    #[token("let", priority = 10)]
    LET_KW,
    /// `in`
    #[token("in", priority = 10)]
    IN_KW,
    /// `rec`
    #[token("rec", priority = 10)]
    REC_KW,
    /// `inherit`
    #[token("inherit", priority = 20)]
    INHERIT_KW,
    /// `or`: a keyword after an attribute path, a name elsewhere.
    #[token("or", priority = 10)]
    OR_KW,

    // Literals.
    /// `12`
    #[regex(r"[0-9]+", priority = 4)]
    INT,
    /// `1.5e3`
    #[regex(
        r"(([1-9][0-9]*\.[0-9]*)|(0?\.[0-9]+))([Ee][+\-]?[0-9]+)?",
        priority = 5
    )]
    FLOAT,
    /// `https://example.org`
    URI,
    /// `<nixpkgs/lib>`
    #[regex(r"<(?&pathchar)+(/(?&pathchar)+)*>")]
    SEARCH_PATH,
    /// A whole path without interpolation.
    #[regex(r"~(/(?&pathchar)+)+/?")]
    PATH,
    /// The first segment of a path up to and including `${` (never leaves the lexer).
    #[token("~/${")]
    PATH_BEFORE_INTERPOLATION,
    /// Before an interpolated path; no bytes.
    PATH_START,
    /// A literal piece of an interpolated path.
    PATH_TEXT,
    /// After an interpolated path; no bytes.
    PATH_END,
    /// `"` that opens a string.
    #[token("\"")]
    STRING_START,
    /// Literal text of a string, with its escapes.
    STRING_TEXT,
    /// `"` that closes a string.
    STRING_END,
    /// `''` that opens an indented string, with the rest of its line when that is blank.
    #[regex(r"''( *\n)?")]
    IND_STRING_START,
    /// Literal text of an indented string, whose indentation counts.
    IND_STRING_TEXT,
    /// `''$`, `'''`, `''\x`, and single `$` and `'`.
    IND_STRING_ESCAPE,
    /// `''` that closes an indented string.
    IND_STRING_END,
    /// `${`
    #[token("${")]
    DOLLAR_BRACE,

    // Punctuation and operators.
    /// `{`
    #[token("{")]
    L_BRACE,
    /// `}`
    #[token("}")]
    R_BRACE,
    /// `(`
    #[token("(")]
    L_PAREN,
    /// `)`
    #[token(")")]
    R_PAREN,
    /// `[`
    #[token("[")]
    L_BRACKET,
    /// `]`
    #[token("]")]
    R_BRACKET,
    /// `;`
    #[token(";")]
    SEMICOLON,
    /// `:`
    #[token(":")]
    COLON,
    /// `,`
    #[token(",")]
    COMMA,
    /// `@`
    #[token("@")]
    AT,
    /// `.`
    #[token(".")]
    DOT,
    /// `...`
    #[token("...")]
    ELLIPSIS,
    /// `?`
    #[token("?")]
    QUESTION,
    /// `=`
    #[token("=")]
    ASSIGN,
    /// `==`
    #[token("==")]
    EQ,
    /// `!=`
    #[token("!=")]
    NE,
    /// `<`
    #[token("<")]
    LT,
    /// `<=`
    #[token("<=")]
    LE,
    /// `>`
    #[token(">")]
    GT,
    /// `>=`
    #[token(">=")]
    GE,
    /// `&&`
    #[token("&&")]
    AND,
    /// `||`
    #[token("||")]
    OR,
    /// `->`
    #[token("->")]
    IMPLIES,
    /// `!`
    #[token("!")]
    NOT,
    /// `+`
    #[token("+")]
    PLUS,
    /// `-`
    #[token("-")]
    MINUS,
    /// `*`
    #[token("*")]
    STAR,
    /// `/`
    #[token("/")]
    SLASH,
    /// `++`
    #[token("++")]
    CONCAT,
    /// `//`
    #[token("//")]
    UPDATE,
    /// `|>`
    #[token("|>")]
    PIPE_INTO,
    /// `<|`
    #[token("<|")]
    PIPE_FROM,

    // Nodes.
    /// A whole file.
    ROOT,
    /// Tokens that fit nowhere.
    ERROR,
    /// An identifier as an expression.
    VARIABLE,
    /// An integer, float, URI or search path.
    LITERAL,
    /// A path.
    PATH_EXPR,
    /// `"…"`
    STRING,
    /// `''…''`
    IND_STRING,
    /// `${ … }` in a string, in a path or as an attribute name.
    INTERPOLATION,
    /// `( … )`
    PAREN,
    /// `[ … ]`
    LIST,
    /// `{ … }` or `rec { … }`
    ATTR_SET,
    /// `let { … }`
    LEGACY_LET,
    /// `let … in …`
    LET,
    /// `path = value;`
    BINDING,
    /// `inherit a b;`
    INHERIT,
    /// `inherit (e) a b;`
    INHERIT_FROM,
    /// `a.b.c`
    ATTR_PATH,
    /// A name in an attribute path or after `inherit`.
    NAME,
    /// `e.path`
    SELECT,
    /// `e.path or default`
    SELECT_OR,
    /// `f or`: an application to the variable `or`, kept for old code.
    APPLY_OR,
    /// `f a b`
    APPLY,
    /// `e ? path`
    HAS_ATTR,
    /// `!e` or `-e`
    UNARY,
    /// `a op b`
    BINARY,
    /// `a |> f` or `f <| a`
    PIPE,
    /// `if a then b else c`
    IF,
    /// `with e; body`
    WITH,
    /// `assert e; body`
    ASSERT,
    /// `x: body`, `{ … }: body`
    LAMBDA,
    /// `{ a, b ? c, ... }` of a function.
    PATTERN,
    /// `a` or `a ? default` in a pattern.
    FORMAL,
}

impl SyntaxKind {
    /// All kinds, in the order of their numbers.
    pub(crate) const ALL: [SyntaxKind; 97] = {
        use SyntaxKind::*;
        [
            WHITESPACE,
            LINE_COMMENT,
            BLOCK_COMMENT,
            DOC_COMMENT,
            ERROR_TOKEN,
            IDENT,
            IF_KW,
            THEN_KW,
            ELSE_KW,
            ASSERT_KW,
            WITH_KW,
            LET_KW,
            IN_KW,
            REC_KW,
            INHERIT_KW,
            OR_KW,
            INT,
            FLOAT,
            URI,
            SEARCH_PATH,
            PATH,
            PATH_BEFORE_INTERPOLATION,
            PATH_START,
            PATH_TEXT,
            PATH_END,
            STRING_START,
            STRING_TEXT,
            STRING_END,
            IND_STRING_START,
            IND_STRING_TEXT,
            IND_STRING_ESCAPE,
            IND_STRING_END,
            DOLLAR_BRACE,
            L_BRACE,
            R_BRACE,
            L_PAREN,
            R_PAREN,
            L_BRACKET,
            R_BRACKET,
            SEMICOLON,
            COLON,
            COMMA,
            AT,
            DOT,
            ELLIPSIS,
            QUESTION,
            ASSIGN,
            EQ,
            NE,
            LT,
            LE,
            GT,
            GE,
            AND,
            OR,
            IMPLIES,
            NOT,
            PLUS,
            MINUS,
            STAR,
            SLASH,
            CONCAT,
            UPDATE,
            PIPE_INTO,
            PIPE_FROM,
            ROOT,
            ERROR,
            VARIABLE,
            LITERAL,
            PATH_EXPR,
            STRING,
            IND_STRING,
            INTERPOLATION,
            PAREN,
            LIST,
            ATTR_SET,
            LEGACY_LET,
            LET,
            BINDING,
            INHERIT,
            INHERIT_FROM,
            ATTR_PATH,
            NAME,
            SELECT,
            SELECT_OR,
            APPLY_OR,
            APPLY,
            HAS_ATTR,
            UNARY,
            BINARY,
            PIPE,
            IF,
            WITH,
            ASSERT,
            LAMBDA,
            PATTERN,
            FORMAL,
        ]
    };

    /// Whitespace and comments.
    pub fn is_trivia(self) -> bool {
        self <= SyntaxKind::DOC_COMMENT
    }

    /// Whether this is the kind of a token rather than of a node.
    pub fn is_token(self) -> bool {
        self < SyntaxKind::ROOT
    }
}
