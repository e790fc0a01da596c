//! What to say about a token that does not fit.

use crate::ast::Span;
use crate::error::{SyntaxError, SyntaxErrorKind};
use crate::kind::SyntaxKind::{self, *};
use crate::lexer::Token;
use crate::parser::Unexpected;

/// How a terminal of the grammar is called in messages, and what sort it is.
fn terminal(name: &str) -> (Sort, &'static str) {
    let name = name.trim_matches('"');
    let find = |table: &'static [(&'static str, &'static str)]| {
        table
            .iter()
            .find(|(terminal, _)| *terminal == name)
            .map(|(_, text)| *text)
    };
    if let Some(text) = find(STRUCTURE) {
        return (Sort::Structure, text);
    }
    if let Some(text) = find(OPERATORS) {
        return (Sort::Operator, text);
    }
    (Sort::Operand, "")
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Sort {
    /// Begins an expression or a name.
    Operand,
    Operator,
    /// Separates or closes.
    Structure,
}

/// In the order in which they are listed.
const STRUCTURE: &[(&str, &str)] = &[
    ("=", "`=`"),
    (":", "`:`"),
    ("then", "`then`"),
    ("else", "`else`"),
    ("in", "`in`"),
    (";", "`;`"),
    (",", "`,`"),
    ("@", "`@`"),
    ("...", "`...`"),
    (")", "`)`"),
    ("]", "`]`"),
    ("}", "`}`"),
    ("string end", "`\"`"),
    ("indented end", "`''`"),
    ("path end", "the end of the path"),
];

const OPERATORS: &[(&str, &str)] = &[
    ("?", "`?`"),
    (".", "`.`"),
    ("==", ""),
    ("!=", ""),
    ("<", ""),
    ("<=", ""),
    (">", ""),
    (">=", ""),
    ("&&", ""),
    ("||", ""),
    ("->", ""),
    ("+", ""),
    ("*", ""),
    ("/", ""),
    ("++", ""),
    ("//", ""),
    ("|>", ""),
    ("<|", ""),
];

/// What would have fitted, in a few words.
fn expected(names: &[String]) -> String {
    let has = |name: &str| names.iter().any(|known| known.trim_matches('"') == name);
    let after_operand = has("+");
    let mut words: Vec<&str> = Vec::new();
    if !after_operand {
        // Nothing is complete yet, so something has to begin.
        if has("int") {
            words.push("an expression");
        } else if has("inherit") {
            words.push("a binding");
        } else if has("or") && has("identifier") {
            words.push("an attribute name");
        } else if has("identifier") {
            words.push("an identifier");
        } else if has("{") {
            words.push("`{`");
        } else if has("${") && !has("string text") && !has("indented text") {
            words.push("`${`");
        }
    }
    if has("=") && has(".") && !has("}") && !has(",") {
        words.push("`.`");
    }
    for (name, text) in STRUCTURE {
        // Whether a lone identifier was meant as a parameter is idle to ask.
        let parameter = after_operand && matches!(*name, ":" | "@");
        if has(name) && !parameter {
            words.push(text);
        }
    }
    if words.is_empty() {
        for name in names {
            let (sort, text) = terminal(name);
            if sort == Sort::Operator && !text.is_empty() && !after_operand {
                words.push(text);
            }
        }
    }
    match words.split_last() {
        None => "the end of the file".to_owned(),
        Some((last, [])) => (*last).to_owned(),
        Some((last, others)) => format!("{} or {last}", others.join(", ")),
    }
}

/// How a token is called where it is written the same way every time.
pub(crate) fn text(kind: SyntaxKind) -> &'static str {
    match kind {
        R_BRACE => "`}`",
        R_PAREN => "`)`",
        R_BRACKET => "`]`",
        _ => "its end",
    }
}

/// What was found, in a few words.
fn found(source: &[u8], token: Token) -> String {
    let text = String::from_utf8_lossy(token.bytes(source));
    match token.kind {
        IF_KW | THEN_KW | ELSE_KW | ASSERT_KW | WITH_KW | LET_KW | IN_KW | REC_KW | INHERIT_KW
        | OR_KW => format!("keyword `{text}`"),
        IDENT => format!("`{}`", shortened(&text)),
        INT | FLOAT => format!("number {}", shortened(&text)),
        URI => format!("URI `{}`", shortened(&text)),
        PATH | PATH_TEXT => format!("path `{}`", shortened(&text)),
        PATH_START => "path".to_owned(),
        PATH_END => "end of the path".to_owned(),
        STRING_START | IND_STRING_START => "string".to_owned(),
        STRING_TEXT | IND_STRING_TEXT | IND_STRING_ESCAPE => "text".to_owned(),
        STRING_END | IND_STRING_END => "end of the string".to_owned(),
        ERROR_TOKEN => match text.chars().next() {
            Some(char::REPLACEMENT_CHARACTER) => "byte that is not UTF-8".to_owned(),
            Some(char) if char.is_control() => format!("character U+{:04X}", u32::from(char)),
            _ => format!("character `{text}`"),
        },
        _ => format!("`{text}`"),
    }
}

fn shortened(text: &str) -> String {
    const LONGEST: usize = 40;
    match text.char_indices().nth(LONGEST) {
        Some((at, _)) => format!("{}…", text.get(..at).unwrap_or(text)),
        None => text.to_owned(),
    }
}

/// The error for an unexpected token.
pub(crate) fn unexpected(source: &[u8], tokens: &[Token], unexpected: &Unexpected) -> SyntaxError {
    let expected = expected(&unexpected.expected);
    let Some(token) = tokens.get(unexpected.token as usize).copied() else {
        let end = source.len() as u32;
        return SyntaxError::new(
            SyntaxErrorKind::UnexpectedEnd,
            format!("unexpected end of the file, expected {expected}"),
            Span { start: end, end },
        );
    };
    let kind = if token.kind == ERROR_TOKEN {
        SyntaxErrorKind::UnknownCharacter
    } else {
        SyntaxErrorKind::UnexpectedToken
    };
    let found = found(source, token);
    let chained = matches!(token.kind, EQ | NE | LT | LE | GT | GE)
        && unexpected.expected.iter().any(|name| name == "\"&&\"");
    let message = if chained {
        format!("{found} cannot follow another comparison, expected parentheses around one of them")
    } else {
        format!("unexpected {found}, expected {expected}")
    };
    SyntaxError::new(kind, message, token.span())
}
