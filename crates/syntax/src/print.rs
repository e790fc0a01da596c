//! Writing an [`Ast`] as text: as C++ Nix prints it, and as s-expressions.
//!
//! Both writers keep their own stack of what is left to write, for trees may be deeper than the host's stack.

use crate::ast::*;

/// What is left to write; the last of a stack comes first.
#[derive(Clone, Copy)]
enum Task<'a> {
    Expr(ExprId),
    /// A call without its parentheses, so that arguments can follow.
    OpenCall(ExprId),
    Text(&'a str),
    /// A string literal.
    Literal(&'a [u8]),
    Name(Name),
    /// Index of a set of bindings.
    Bindings(u32),
    /// A path component.
    Component(AttrName),
    /// An attribute of a binding set, written as an s-expression.
    Attr(Attr),
}

impl Ast {
    /// The normal form that `nix-instantiate --parse` prints, without the final line feed.
    ///
    /// Relative paths are resolved against `folder` and home paths against `home`, both absolute.
    pub fn to_nix_parse_bytes(&self, folder: &str, home: &str) -> Vec<u8> {
        let mut writer = NixWriter {
            ast: self,
            folder,
            home,
            out: Vec::new(),
            tasks: Vec::new(),
        };
        if let Some(root) = self.root {
            writer.tasks.push(Task::Expr(root));
        }
        while let Some(task) = writer.tasks.pop() {
            writer.task(task);
        }
        writer.out
    }

    /// Like [`Ast::to_nix_parse_bytes`], with U+FFFD for what is not UTF-8.
    pub fn to_nix_parse_string(&self, folder: &str, home: &str) -> String {
        String::from_utf8_lossy(&self.to_nix_parse_bytes(folder, home)).into_owned()
    }

    /// The tree as s-expressions on one line: names and numbers stand for themselves, `(call f a)` is an
    /// application, `(let ((= a 1)) a)` a `let`, and so on.
    pub fn to_sexpr(&self) -> String {
        let mut writer = SexprWriter {
            ast: self,
            out: Vec::new(),
            tasks: Vec::new(),
        };
        if let Some(root) = self.root {
            writer.tasks.push(Task::Expr(root));
        }
        while let Some(task) = writer.tasks.pop() {
            writer.task(task);
        }
        String::from_utf8_lossy(&writer.out).into_owned()
    }

    fn name_str(&self, name: Name) -> &str {
        let name = self.names.get(name.0 as usize);
        name.map_or("", |name| name.as_str())
    }

    fn text_of(&self, range: Range) -> &[u8] {
        self.text.get(range.indices()).unwrap_or_default()
    }
}

fn is_keyword(name: &str) -> bool {
    matches!(
        name,
        "if" | "then" | "else" | "assert" | "with" | "let" | "in" | "rec" | "inherit"
    )
}

fn write_name(out: &mut Vec<u8>, name: &str) {
    let plain = name
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'\'' | b'-'))
        && name
            .bytes()
            .next()
            .is_some_and(|first| first.is_ascii_alphabetic() || first == b'_')
        && !is_keyword(name);
    if plain {
        out.extend_from_slice(name.as_bytes());
    } else {
        write_literal(out, name.as_bytes());
    }
}

fn write_literal(out: &mut Vec<u8>, text: &[u8]) {
    out.push(b'"');
    let mut rest = text;
    while let [byte, tail @ ..] = rest {
        match byte {
            b'"' | b'\\' => out.extend_from_slice(&[b'\\', *byte]),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            b'$' if tail.first() == Some(&b'{') => out.extend_from_slice(b"\\$"),
            _ => out.push(*byte),
        }
        rest = tail;
    }
    out.push(b'"');
}

/// Six significant digits, as C's `%g` writes them.
fn write_float(out: &mut Vec<u8>, value: f64) {
    let text = format!("{value:.5e}");
    let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let fraction = |text: &str| -> String {
        if text.contains('.') {
            text.trim_end_matches('0').trim_end_matches('.').to_owned()
        } else {
            text.to_owned()
        }
    };
    let text = if (-4..6).contains(&exponent) {
        let digits = usize::try_from(5 - exponent).unwrap_or(0);
        fraction(&format!("{value:.digits$}"))
    } else {
        let sign = if exponent < 0 { '-' } else { '+' };
        format!("{}e{sign}{:02}", fraction(mantissa), exponent.abs())
    };
    out.extend_from_slice(text.as_bytes());
}

struct NixWriter<'a> {
    ast: &'a Ast,
    folder: &'a str,
    home: &'a str,
    out: Vec<u8>,
    tasks: Vec<Task<'a>>,
}

impl<'a> NixWriter<'a> {
    fn text(&mut self, text: &str) {
        self.out.extend_from_slice(text.as_bytes());
    }

    /// Schedules tasks, the first one first.
    fn then(&mut self, tasks: &[Task<'a>]) {
        self.tasks.extend(tasks.iter().rev());
    }

    fn task(&mut self, task: Task<'a>) {
        match task {
            Task::Text(text) => self.text(text),
            Task::Literal(text) => write_literal(&mut self.out, text),
            Task::Name(name) => write_name(&mut self.out, self.ast.name_str(name)),
            Task::Expr(id) => self.expr(id, false),
            Task::OpenCall(id) => self.expr(id, true),
            Task::Bindings(index) => self.bindings(index),
            Task::Component(AttrName::Static(name, _)) => {
                write_name(&mut self.out, self.ast.name_str(name));
            }
            Task::Component(AttrName::Dynamic(id)) => {
                self.text("\"${");
                self.then(&[Task::Expr(id), Task::Text("}\"")]);
            }
            Task::Attr(_) => {}
        }
    }

    fn path(&mut self, kind: PathKind, text: &[u8]) {
        match kind {
            PathKind::Home => {
                self.text(self.home);
                self.out
                    .extend_from_slice(text.get(1..).unwrap_or_default());
            }
            PathKind::Absolute => self.canonical(text),
            PathKind::Relative => {
                let mut whole = self.folder.as_bytes().to_vec();
                whole.push(b'/');
                whole.extend_from_slice(text);
                self.canonical(&whole);
            }
        }
    }

    /// Writes an absolute path without `.`, `..` and double slashes, but with its last slash.
    fn canonical(&mut self, path: &[u8]) {
        let mut parts: Vec<&[u8]> = Vec::new();
        for part in path.split(|byte| *byte == b'/') {
            match part {
                b"" | b"." => {}
                b".." => {
                    parts.pop();
                }
                part => parts.push(part),
            }
        }
        for part in &parts {
            self.out.push(b'/');
            self.out.extend_from_slice(part);
        }
        if parts.is_empty() || (path.len() > 1 && path.last() == Some(&b'/')) {
            self.out.push(b'/');
        }
    }

    fn components(&mut self, path: Range, after: Task<'a>) {
        let names = self.ast.attr_names.get(path.indices()).unwrap_or_default();
        self.tasks.push(after);
        for (index, name) in names.iter().enumerate().rev() {
            self.tasks.push(Task::Component(*name));
            if index > 0 {
                self.tasks.push(Task::Text("."));
            }
        }
    }

    /// Writes an expression; a call with `open` lacks its parentheses.
    fn expr(&mut self, id: ExprId, open: bool) {
        let Some(expr) = self.ast.exprs.get(id.0 as usize).copied() else {
            return;
        };
        let call = |writer: &mut Self, function: Task<'a>, left: Task<'a>, right: Task<'a>| {
            if !open {
                writer.tasks.push(Task::Text(")"));
                writer.text("(");
            }
            writer.then(&[function, Task::Text(" "), left, Task::Text(" "), right]);
        };
        match expr {
            Expr::Int(value) => self.text(&value.to_string()),
            Expr::Float(value) => write_float(&mut self.out, value),
            Expr::Str(range) => write_literal(&mut self.out, self.ast.text_of(range)),
            Expr::Path(kind, range) => self.path(kind, self.ast.text_of(range)),
            Expr::Interpolation(range) => {
                self.text("(");
                self.tasks.push(Task::Text(")"));
                self.parts(range);
            }
            Expr::PathInterpolation(kind, range) => {
                self.text("(");
                self.tasks.push(Task::Text(")"));
                if let Some(Part::Text(text)) = self.ast.parts.get(range.start as usize) {
                    self.path(kind, self.ast.text_of(*text));
                    self.tasks.push(Task::Text(""));
                    let rest = Range {
                        start: range.start + 1,
                        end: range.end,
                    };
                    self.parts(rest);
                    self.tasks.push(Task::Text(" + "));
                } else {
                    self.parts(range);
                }
            }
            Expr::SearchPath(range) => call(
                self,
                Task::Text("__findFile"),
                Task::Text("__nixPath"),
                Task::Literal(self.ast.text_of(range)),
            ),
            Expr::Var(name) => write_name(&mut self.out, self.ast.name_str(name)),
            Expr::CurPos => self.text("__curPos"),
            Expr::Select { set, path } => {
                self.text("(");
                self.components(path, Task::Text(""));
                self.then(&[Task::Expr(set), Task::Text(").")]);
            }
            Expr::SelectOr { index } => {
                if let Some(select) = self.ast.select_ors.get(index as usize).copied() {
                    self.text("(");
                    self.then(&[
                        Task::Text(" or ("),
                        Task::Expr(select.default),
                        Task::Text(")"),
                    ]);
                    self.components(select.path, Task::Text(""));
                    self.then(&[Task::Expr(select.set), Task::Text(").")]);
                }
            }
            Expr::HasAttr { set, path } => {
                self.text("((");
                self.components(path, Task::Text(")"));
                self.then(&[Task::Expr(set), Task::Text(") ? ")]);
            }
            Expr::Call { function, args } => {
                if !open {
                    self.text("(");
                    self.tasks.push(Task::Text(")"));
                }
                let args = self.ast.lists.get(args.indices()).unwrap_or_default();
                for arg in args.iter().rev() {
                    self.then(&[Task::Text(" "), Task::Expr(*arg)]);
                }
                // `(f a) or` alone does not become one application.
                let first = args
                    .first()
                    .and_then(|id| self.ast.exprs.get(id.0 as usize));
                let or = matches!(first, Some(Expr::Var(name)) if self.ast.name_str(*name) == "or");
                self.tasks.push(if or {
                    Task::Expr(function)
                } else {
                    Task::OpenCall(function)
                });
            }
            Expr::List(range) => {
                self.text("[ ");
                self.tasks.push(Task::Text("]"));
                let elements = self.ast.lists.get(range.indices()).unwrap_or_default();
                for element in elements.iter().rev() {
                    self.then(&[Task::Text("("), Task::Expr(*element), Task::Text(") ")]);
                }
            }
            Expr::Attrs(bindings) => {
                let set = self.ast.bindings.get(bindings as usize);
                let recursive = set.is_some_and(|set| set.recursive);
                self.text(if recursive { "rec { " } else { "{ " });
                self.then(&[Task::Bindings(bindings), Task::Text("}")]);
            }
            Expr::LegacyLet(bindings) => {
                self.text("(rec { ");
                self.then(&[Task::Bindings(bindings), Task::Text("}).body")]);
            }
            Expr::Let { bindings, body } => {
                self.text("(let ");
                self.then(&[
                    Task::Bindings(bindings),
                    Task::Text("in "),
                    Task::Expr(body),
                    Task::Text(")"),
                ]);
            }
            Expr::With { set, body } => {
                self.text("(with ");
                self.then(&[
                    Task::Expr(set),
                    Task::Text("; "),
                    Task::Expr(body),
                    Task::Text(")"),
                ]);
            }
            Expr::Assert { condition, body } => {
                self.text("assert ");
                self.then(&[Task::Expr(condition), Task::Text("; "), Task::Expr(body)]);
            }
            Expr::If { condition, yes, no } => {
                self.text("(if ");
                self.then(&[
                    Task::Expr(condition),
                    Task::Text(" then "),
                    Task::Expr(yes),
                    Task::Text(" else "),
                    Task::Expr(no),
                    Task::Text(")"),
                ]);
            }
            Expr::Lambda(index) => {
                if let Some(lambda) = self.ast.lambdas.get(index as usize).copied() {
                    self.lambda(lambda);
                }
            }
            Expr::Not(operand) => {
                self.text("(! ");
                self.then(&[Task::Expr(operand), Task::Text(")")]);
            }
            Expr::Negate(operand) => call(
                self,
                Task::Text("__sub"),
                Task::Text("0"),
                Task::Expr(operand),
            ),
            Expr::Binary { op, left, right } => {
                let (left, right) = (Task::Expr(left), Task::Expr(right));
                let less = Task::Text("__lessThan");
                let operator = match op {
                    BinaryOp::Sub => return call(self, Task::Text("__sub"), left, right),
                    BinaryOp::Mul => return call(self, Task::Text("__mul"), left, right),
                    BinaryOp::Div => return call(self, Task::Text("__div"), left, right),
                    BinaryOp::Lt => return call(self, less, left, right),
                    BinaryOp::Gt => return call(self, less, right, left),
                    BinaryOp::Le | BinaryOp::Ge => {
                        let (left, right) = if op == BinaryOp::Le {
                            (right, left)
                        } else {
                            (left, right)
                        };
                        self.text("(! (__lessThan ");
                        self.then(&[left, Task::Text(" "), right, Task::Text("))")]);
                        return;
                    }
                    BinaryOp::Add => " + ",
                    BinaryOp::Concat => " ++ ",
                    BinaryOp::Update => " // ",
                    BinaryOp::Eq => " == ",
                    BinaryOp::Ne => " != ",
                    BinaryOp::And => " && ",
                    BinaryOp::Or => " || ",
                    BinaryOp::Implies => " -> ",
                };
                self.text("(");
                self.then(&[left, Task::Text(operator), right, Task::Text(")")]);
            }
        }
    }

    fn parts(&mut self, range: Range) {
        let parts = self.ast.parts.get(range.indices()).unwrap_or_default();
        for (index, part) in parts.iter().enumerate().rev() {
            self.tasks.push(match part {
                Part::Text(text) => Task::Literal(self.ast.text_of(*text)),
                Part::Expr(id) => Task::Expr(*id),
            });
            if index > 0 {
                self.tasks.push(Task::Text(" + "));
            }
        }
    }

    fn lambda(&mut self, lambda: Lambda) {
        self.text("(");
        self.then(&[Task::Text(": "), Task::Expr(lambda.body), Task::Text(")")]);
        if let Some(param) = lambda.param {
            self.tasks.push(Task::Name(param));
        }
        let Some(formals) = lambda.formals else {
            return;
        };
        if lambda.param.is_some() {
            self.tasks.push(Task::Text(" @ "));
        }
        let mut formals = self
            .ast
            .formals
            .get(formals.indices())
            .unwrap_or_default()
            .to_vec();
        formals.sort_by_key(|formal| self.ast.name_str(formal.name));
        self.text("{ ");
        self.tasks.push(Task::Text(" }"));
        if lambda.ellipsis {
            self.tasks.push(Task::Text("..."));
            if !formals.is_empty() {
                self.tasks.push(Task::Text(", "));
            }
        }
        for (index, formal) in formals.iter().enumerate().rev() {
            if let Some(default) = formal.default {
                self.then(&[Task::Text(" ? "), Task::Expr(default)]);
            }
            self.tasks.push(Task::Name(formal.name));
            if index > 0 {
                self.tasks.push(Task::Text(", "));
            }
        }
    }

    fn bindings(&mut self, index: u32) {
        let Some(bindings) = self.ast.bindings.get(index as usize).copied() else {
            return;
        };
        let mut attrs = self
            .ast
            .attrs
            .get(bindings.attrs.indices())
            .unwrap_or_default()
            .to_vec();
        attrs.sort_by_key(|attr| self.ast.name_str(attr.name));
        let mut inherited = Vec::new();
        let mut inherited_from: Vec<(u32, Name)> = Vec::new();
        let mut tasks = Vec::new();
        for attr in &attrs {
            match attr.value {
                AttrValue::Inherit(_) => inherited.push(attr.name),
                AttrValue::InheritFrom(from) => inherited_from.push((from, attr.name)),
                AttrValue::Plain(_) => {}
            }
        }
        if !inherited.is_empty() {
            tasks.push(Task::Text("inherit"));
            for name in inherited {
                tasks.extend([Task::Text(" "), Task::Name(name)]);
            }
            tasks.push(Task::Text("; "));
        }
        // Stable, so that names stay in order.
        inherited_from.sort_by_key(|(from, _)| *from);
        let sources = self.ast.lists.get(bindings.from.indices());
        for group in inherited_from.chunk_by(|left, right| left.0 == right.0) {
            if let Some((from, _)) = group.first() {
                let source = sources.unwrap_or_default().get(*from as usize);
                tasks.push(Task::Text("inherit ("));
                tasks.extend(source.map(|id| Task::Expr(*id)));
                tasks.push(Task::Text(")"));
            }
            for (_, name) in group {
                tasks.extend([Task::Text(" "), Task::Name(*name)]);
            }
            tasks.push(Task::Text("; "));
        }
        for attr in &attrs {
            if let AttrValue::Plain(value) = attr.value {
                tasks.extend([
                    Task::Name(attr.name),
                    Task::Text(" = "),
                    Task::Expr(value),
                    Task::Text("; "),
                ]);
            }
        }
        let dynamic = self.ast.dynamic_attrs.get(bindings.dynamic.indices());
        for attr in dynamic.unwrap_or_default() {
            tasks.extend([
                Task::Component(AttrName::Dynamic(attr.name)),
                Task::Text(" = "),
                Task::Expr(attr.value),
                Task::Text("; "),
            ]);
        }
        self.then(&tasks);
    }
}

struct SexprWriter<'a> {
    ast: &'a Ast,
    out: Vec<u8>,
    tasks: Vec<Task<'a>>,
}

impl<'a> SexprWriter<'a> {
    fn text(&mut self, text: &str) {
        self.out.extend_from_slice(text.as_bytes());
    }

    /// Schedules `(head task task …)`.
    fn form(&mut self, head: &'a str, tasks: impl IntoIterator<Item = Task<'a>>) {
        self.text("(");
        self.text(head);
        let start = self.tasks.len();
        let mut first = head.is_empty();
        for task in tasks {
            if !first {
                self.tasks.push(Task::Text(" "));
            }
            first = false;
            self.tasks.push(task);
        }
        self.tasks.push(Task::Text(")"));
        if let Some(added) = self.tasks.get_mut(start..) {
            added.reverse();
        }
    }

    fn exprs(&self, range: Range) -> impl Iterator<Item = Task<'a>> + use<'a> {
        let list = self.ast.lists.get(range.indices()).unwrap_or_default();
        list.iter().map(|id| Task::Expr(*id))
    }

    fn path(&self, range: Range) -> impl Iterator<Item = Task<'a>> + use<'a> {
        let path = self.ast.attr_names.get(range.indices()).unwrap_or_default();
        path.iter().map(|name| Task::Component(*name))
    }

    fn parts(&self, range: Range) -> impl Iterator<Item = Task<'a>> + use<'a> {
        let ast = self.ast;
        let parts = ast.parts.get(range.indices()).unwrap_or_default();
        parts.iter().map(|part| match part {
            Part::Text(text) => Task::Literal(ast.text_of(*text)),
            Part::Expr(id) => Task::Expr(*id),
        })
    }

    fn task(&mut self, task: Task<'a>) {
        match task {
            Task::Text(text) => self.text(text),
            Task::Literal(text) => write_literal(&mut self.out, text),
            Task::Name(name) | Task::Component(AttrName::Static(name, _)) => {
                write_name(&mut self.out, self.ast.name_str(name));
            }
            Task::Component(AttrName::Dynamic(id)) => self.form("dynamic", [Task::Expr(id)]),
            Task::Expr(id) | Task::OpenCall(id) => self.expr(id),
            Task::Bindings(index) => self.bindings(index),
            Task::Attr(attr) => match attr.value {
                AttrValue::Plain(id) => self.form("=", [Task::Name(attr.name), Task::Expr(id)]),
                AttrValue::Inherit(_) => self.form("inherit", [Task::Name(attr.name)]),
                AttrValue::InheritFrom(from) => {
                    self.text(&format!("(inherit-from {from} "));
                    self.tasks.extend([Task::Text(")"), Task::Name(attr.name)]);
                }
            },
        }
    }

    fn bindings(&mut self, index: u32) {
        let ast = self.ast;
        let Some(bindings) = ast.bindings.get(index as usize).copied() else {
            return;
        };
        let attrs = ast.attrs.get(bindings.attrs.indices()).unwrap_or_default();
        let dynamic = ast.dynamic_attrs.get(bindings.dynamic.indices());
        let mut tasks: Vec<Task<'a>> = Vec::new();
        if !bindings.from.is_empty() {
            tasks.push(Task::Text("(from"));
            for source in self.exprs(bindings.from) {
                tasks.extend([Task::Text(" "), source]);
            }
            tasks.push(Task::Text(")"));
        }
        for attr in attrs {
            if !tasks.is_empty() {
                tasks.push(Task::Text(" "));
            }
            tasks.push(Task::Attr(*attr));
        }
        for attr in dynamic.unwrap_or_default() {
            if !tasks.is_empty() {
                tasks.push(Task::Text(" "));
            }
            tasks.extend([
                Task::Text("(= "),
                Task::Component(AttrName::Dynamic(attr.name)),
                Task::Text(" "),
                Task::Expr(attr.value),
                Task::Text(")"),
            ]);
        }
        self.tasks.extend(tasks.iter().rev());
    }

    /// Schedules a form around a set of bindings.
    fn binding_form(&mut self, head: &'a str, bindings: u32, body: Option<ExprId>) {
        self.text("(");
        self.text(head);
        self.tasks.push(Task::Text(")"));
        if let Some(body) = body {
            self.tasks.extend([Task::Expr(body), Task::Text(" ")]);
        }
        let set = self.ast.bindings.get(bindings as usize);
        let empty = set.is_none_or(|set| {
            set.attrs.is_empty() && set.dynamic.is_empty() && set.from.is_empty()
        });
        if !empty {
            self.tasks
                .extend([Task::Bindings(bindings), Task::Text(" ")]);
        }
    }

    fn expr(&mut self, id: ExprId) {
        let ast = self.ast;
        let Some(expr) = ast.exprs.get(id.0 as usize).copied() else {
            return;
        };
        match expr {
            Expr::Int(value) => self.text(&value.to_string()),
            Expr::Float(value) => self.text(&format!("{value:?}")),
            Expr::Str(range) => write_literal(&mut self.out, ast.text_of(range)),
            Expr::Interpolation(range) => {
                let parts = self.parts(range);
                self.form("str", parts);
            }
            Expr::Path(_, range) => self.form("path", [Task::Literal(ast.text_of(range))]),
            Expr::PathInterpolation(_, range) => {
                let parts = self.parts(range);
                self.form("path", parts);
            }
            Expr::SearchPath(range) => self.form("search", [Task::Literal(ast.text_of(range))]),
            Expr::Var(name) => write_name(&mut self.out, ast.name_str(name)),
            Expr::CurPos => self.text("(cur-pos)"),
            Expr::Select { set, path } => {
                let path = self.path(path);
                self.form("select", [Task::Expr(set)].into_iter().chain(path));
            }
            Expr::SelectOr { index } => {
                if let Some(select) = ast.select_ors.get(index as usize).copied() {
                    let path = self.path(select.path);
                    let tasks = [Task::Expr(select.set)].into_iter().chain(path);
                    let default = [Task::Text("or"), Task::Expr(select.default)];
                    self.form("select", tasks.chain(default));
                }
            }
            Expr::HasAttr { set, path } => {
                let path = self.path(path);
                self.form("?", [Task::Expr(set)].into_iter().chain(path));
            }
            Expr::Call { function, args } => {
                let args = self.exprs(args);
                self.form("call", [Task::Expr(function)].into_iter().chain(args));
            }
            Expr::List(range) => {
                let elements = self.exprs(range);
                self.form("list", elements);
            }
            Expr::Attrs(bindings) => {
                let set = ast.bindings.get(bindings as usize);
                let recursive = set.is_some_and(|set| set.recursive);
                self.binding_form(if recursive { "rec" } else { "attrs" }, bindings, None);
            }
            Expr::LegacyLet(bindings) => self.binding_form("legacy-let", bindings, None),
            Expr::Let { bindings, body } => self.binding_form("let", bindings, Some(body)),
            Expr::With { set, body } => self.form("with", [Task::Expr(set), Task::Expr(body)]),
            Expr::Assert { condition, body } => {
                self.form("assert", [Task::Expr(condition), Task::Expr(body)]);
            }
            Expr::If { condition, yes, no } => self.form(
                "if",
                [Task::Expr(condition), Task::Expr(yes), Task::Expr(no)],
            ),
            Expr::Lambda(index) => {
                if let Some(lambda) = ast.lambdas.get(index as usize).copied() {
                    self.lambda(lambda);
                }
            }
            Expr::Not(operand) => self.form("!", [Task::Expr(operand)]),
            Expr::Negate(operand) => self.form("-", [Task::Expr(operand)]),
            Expr::Binary { op, left, right } => {
                let head = match op {
                    BinaryOp::Add => "+",
                    BinaryOp::Sub => "-",
                    BinaryOp::Mul => "*",
                    BinaryOp::Div => "/",
                    BinaryOp::Concat => "++",
                    BinaryOp::Update => "//",
                    BinaryOp::Eq => "==",
                    BinaryOp::Ne => "!=",
                    BinaryOp::Lt => "<",
                    BinaryOp::Le => "<=",
                    BinaryOp::Gt => ">",
                    BinaryOp::Ge => ">=",
                    BinaryOp::And => "&&",
                    BinaryOp::Or => "||",
                    BinaryOp::Implies => "->",
                };
                self.form(head, [Task::Expr(left), Task::Expr(right)]);
            }
        }
    }

    fn lambda(&mut self, lambda: Lambda) {
        let mut tasks = Vec::new();
        if let Some(param) = lambda.param {
            tasks.extend([Task::Name(param), Task::Text(" ")]);
        }
        if let Some(formals) = lambda.formals {
            let formals = self.ast.formals.get(formals.indices()).unwrap_or_default();
            tasks.push(Task::Text("("));
            for (index, formal) in formals.iter().enumerate() {
                if index > 0 {
                    tasks.push(Task::Text(" "));
                }
                match formal.default {
                    None => tasks.push(Task::Name(formal.name)),
                    Some(default) => tasks.extend([
                        Task::Text("(? "),
                        Task::Name(formal.name),
                        Task::Text(" "),
                        Task::Expr(default),
                        Task::Text(")"),
                    ]),
                }
            }
            if lambda.ellipsis {
                tasks.push(Task::Text(if formals.is_empty() { "..." } else { " ..." }));
            }
            tasks.push(Task::Text(") "));
        }
        tasks.extend([Task::Expr(lambda.body), Task::Text(")")]);
        self.text("(lambda ");
        self.tasks.extend(tasks.iter().rev());
    }
}
