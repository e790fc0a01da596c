//! Sources on their way in: texts and files are parsed, compiled and remembered.

use super::Machine;
use super::paths::{bytes_path, canonical_path, host_error};
use crate::compile::{FileInfo, OuterScope, compile, outer_env};
use crate::error::{Error, ErrorKind, Result};
use crate::host::{FileType, Note};
use crate::position::{Origin, PosId, SourceSpan};
use crate::symbol::Symbol;
use crate::value::Value;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;

/// Files of at most this many bytes leave their buffers to the next file.
const KEEP_BUFFERS_OF: usize = 1 << 17;

impl Machine {
    /// Parses and compiles a text and returns the thunk of its value.
    ///
    /// # Errors
    /// Syntax errors and undefined variables.
    pub fn load_text(&mut self, text: &[u8], origin: Origin, dir: &Path) -> Result<Value> {
        self.load_scoped(text, origin, dir, &OuterScope::default(), &[])
    }

    /// Like [`Machine::load_text`], with variables around the text.
    ///
    /// # Errors
    /// Syntax errors and undefined variables.
    pub fn load_text_with(
        &mut self,
        text: &[u8],
        origin: Origin,
        dir: &Path,
        variables: &[(Symbol, Value)],
    ) -> Result<Value> {
        let scope = OuterScope {
            names: variables.iter().map(|(s, _)| *s).collect(),
            with_slot: None,
        };
        let values: Vec<Value> = variables.iter().map(|(_, v)| *v).collect();
        self.load_scoped(text, origin, dir, &scope, &values)
    }

    fn load_scoped(
        &mut self,
        text: &[u8],
        origin: Origin,
        dir: &Path,
        scope: &OuterScope,
        values: &[Value],
    ) -> Result<Value> {
        let kept = match origin {
            Origin::File(_) => None,
            _ => Some(Arc::from(text)),
        };
        let kept_bytes = kept.as_ref().map_or(0, |text: &Arc<[u8]>| text.len());
        let Some(base) = self.sources.add(origin, text.len(), kept) else {
            return Err(Error::new(
                ErrorKind::Memory,
                "more than 4 GiB of source files",
            ));
        };
        let options = nivis_syntax::ParseOptions {
            pipe_operators: self.settings.feature("pipe-operators"),
        };
        let mut buffers = std::mem::take(&mut self.parse_buffers);
        let ast = nivis_syntax::parse_with(text, &options, &mut buffers).map_err(|errors| {
            errors.first().map_or_else(
                || Error::new(ErrorKind::Syntax, "syntax error"),
                |e| self.syntax_error(base, e),
            )
        })?;
        self.lint(&ast, text, base)?;
        let entry = compile(self, &ast, FileInfo { base, dir, scope })?;
        if let Some(program) = self.tables.programs.last() {
            self.code_bytes += program.bytes() + kept_bytes;
        }
        self.check_memory(0)?;
        if text.len() <= KEEP_BUFFERS_OF {
            buffers.recycle(ast);
            self.parse_buffers = buffers;
        } else {
            self.compile_buffers = crate::compile::Buffers::default();
        }
        let env = outer_env(self, values);
        Ok(self.heap.thunk(entry, env))
    }

    fn syntax_error(&self, base: PosId, e: &nivis_syntax::SyntaxError) -> Error {
        let place = |span: nivis_syntax::ast::Span| SourceSpan {
            start: crate::position::offset(base, span.start),
            len: span.end.saturating_sub(span.start),
        };
        let mut message = e.message.to_string();
        let related = e
            .related
            .map(|(span, what)| (what.to_string(), place(span)));
        if let Some((_, before)) = &related
            && e.kind == nivis_syntax::SyntaxErrorKind::DuplicateAttribute
        {
            message.push_str(" at ");
            message.push_str(&self.describe_position(before.start));
        }
        let mut error = Error::new(ErrorKind::Syntax, message).at(place(e.span));
        error.data_mut().related = related;
        error
    }

    /// The thunk of a file's value; each file is read and compiled once per evaluator. `path` is
    /// resolved: symbolic links are followed, and a folder means its `default.nix`.
    ///
    /// # Errors
    /// When the file cannot be read or does not parse.
    pub fn load_file(&mut self, path: &Path) -> Result<Value> {
        if let Some(v) = self.imports.get(path) {
            return Ok(v.resolved());
        }
        let resolved = self.resolve_import(path)?;
        if resolved != path
            && let Some(v) = self.imports.get(&resolved).copied()
        {
            self.imports.insert(path.to_path_buf(), v);
            return Ok(v.resolved());
        }
        let v = self.load_resolved(resolved.clone(), &[])?;
        self.imports.insert(resolved.clone(), v);
        self.imports.insert(path.to_path_buf(), v);
        Ok(v)
    }

    /// Whether a file was read, or its value given, already.
    pub fn is_loaded(&self, path: &Path) -> bool {
        self.imports.contains_key(path)
    }

    /// Makes a value that of a file, which is then never read from the host.
    pub fn preload(&mut self, path: &Path, value: Value) {
        self.imports.insert(path.to_path_buf(), value);
    }

    /// Like [`Machine::load_file`], with variables around the file and without remembering the result.
    ///
    /// # Errors
    /// When the file cannot be read or does not parse.
    pub fn load_file_with(&mut self, path: &Path, variables: &[(Symbol, Value)]) -> Result<Value> {
        let resolved = self.resolve_import(path)?;
        self.load_resolved(resolved, variables)
    }

    fn load_resolved(&mut self, resolved: PathBuf, variables: &[(Symbol, Value)]) -> Result<Value> {
        self.host.note(Note::File(&resolved));
        let text = self
            .host
            .read_file_within(&resolved, self.heap.room())
            .map_err(|e| host_error(&e, &resolved))?;
        let dir = resolved.parent().unwrap_or(Path::new("/")).to_path_buf();
        self.load_text_with(&text, Origin::File(resolved), &dir, variables)
    }

    fn resolve_import(&mut self, path: &Path) -> Result<PathBuf> {
        let host = Rc::clone(&self.host);
        let mut current = path.to_path_buf();
        let mut links = 0;
        loop {
            match host
                .file_type(&current)
                .map_err(|e| host_error(&e, &current))?
            {
                Some(FileType::Symlink) => {
                    links += 1;
                    if links > 1024 {
                        return Err(Error::new(
                            ErrorKind::Host,
                            format!("too many symbolic links at '{}'", path.display()),
                        ));
                    }
                    let target = host
                        .read_link(&current)
                        .map_err(|e| host_error(&e, &current))?;
                    let joined = current.parent().unwrap_or(Path::new("/")).join(target);
                    current = bytes_path(&canonical_path(joined.as_os_str().as_encoded_bytes()))
                        .to_path_buf();
                }
                Some(FileType::Directory) => {
                    current.push("default.nix");
                    // A `default.nix` that is itself a link or folder is followed in turn.
                    if !matches!(
                        host.file_type(&current)
                            .map_err(|e| host_error(&e, &current))?,
                        Some(FileType::Symlink)
                    ) {
                        return Ok(current);
                    }
                }
                _ => return Ok(current),
            }
        }
    }
}
