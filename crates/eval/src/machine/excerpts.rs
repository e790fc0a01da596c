//! Positions and the texts behind them.

use super::Machine;
use crate::code::Op;
use crate::context::ContextId;
use crate::position::{PosId, SourceSpan};
use crate::value::Value;
use std::path::Path;
use std::rc::Rc;

impl Machine {
    #[cold]
    pub(super) fn assertion_message(&self, at: *const Op) -> String {
        match self
            .tables
            .span(at)
            .and_then(|span| self.expression_text(span))
        {
            Some(text) => format!("assertion '{text}' failed"),
            None => "assertion failed".to_string(),
        }
    }

    /// The expression at a span, printed in normal form. Reads and parses the source again: for errors.
    pub(crate) fn expression_text(&self, span: SourceSpan) -> Option<String> {
        let (source, offset) = self.sources.resolve(span.start)?;
        let text = match &source.text {
            Some(t) => t.to_vec(),
            None => self.host.read_file(source.origin.path()?).ok()?,
        };
        let options = nivis_syntax::ParseOptions {
            pipe_operators: self.settings.feature("pipe-operators"),
        };
        let mut ast = nivis_syntax::parse(&text, &options).ok()?;
        let wanted = nivis_syntax::ast::Span {
            start: offset as u32,
            end: offset as u32 + span.len,
        };
        // Of expressions with the same span (parentheses are not nodes) the outermost comes last.
        let at = ast.spans.iter().rposition(|s| *s == wanted)?;
        ast.root = Some(nivis_syntax::ast::ExprId(at as u32));
        let dir = source
            .origin
            .path()
            .and_then(Path::parent)
            .map(|p| p.display().to_string());
        let home = self
            .host
            .env(b"HOME")
            .map(|h| String::from_utf8_lossy(&h).into_owned());
        let text = ast.to_nix_parse_string(&dir.unwrap_or_default(), &home.unwrap_or_default());
        Some(text.trim_end().to_string())
    }

    /// The source text of a span.
    pub fn source_text(&self, span: SourceSpan) -> Option<String> {
        let (source, offset) = self.sources.resolve(span.start)?;
        let text = match &source.text {
            Some(t) => t.to_vec(),
            None => self.host.read_file(source.origin.path()?).ok()?,
        };
        let bytes = text.get(offset..offset + span.len as usize)?;
        Some(String::from_utf8_lossy(bytes).into_owned())
    }

    /// File, line and column of a position, as messages show it.
    pub fn describe_position(&self, pos: PosId) -> String {
        match self.sources.resolve(pos) {
            None => "«none»".to_string(),
            Some((source, offset)) => {
                match self
                    .sources
                    .line_column(source, offset, |p| self.host.read_file(p).ok())
                {
                    Some((line, column)) => format!("{}:{line}:{column}", source.origin.name()),
                    None => source.origin.name(),
                }
            }
        }
    }

    /// The set `{ file, line, column }` of a position in a file, or null.
    pub fn position_attrs(&mut self, pos: PosId) -> Value {
        let Some((source, offset)) = self.sources.resolve(pos) else {
            return Value::NULL;
        };
        let Some(path) = source.origin.path() else {
            return Value::NULL;
        };
        let path = path.as_os_str().as_encoded_bytes().to_vec();
        let host = Rc::clone(&self.host);
        let Some((line, column)) = self
            .sources
            .line_column(source, offset, |p| host.read_file(p).ok())
        else {
            return Value::NULL;
        };
        let file = self.heap.string(&path, ContextId::EMPTY);
        let line = self.heap.int(i64::from(line));
        let column = self.heap.int(i64::from(column));
        let known = self.known;
        self.attrs([
            (known.file, PosId::NONE, file),
            (known.line, PosId::NONE, line),
            (known.column, PosId::NONE, column),
        ])
    }
}
