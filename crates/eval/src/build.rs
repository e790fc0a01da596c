//! Making lists and sets in place, for builtins that run often: no temporary copies of the values.

use crate::code::{Default as FormalDefault, Lambda};
use crate::error::Result;
use crate::heap::{AttrsRef, Callee, FunctionRef, ListRef, MAX_LAYERS, SPARSE_FROM, Shape};
use crate::machine::{Machine, lambda_of};
use crate::native::Activation;
use crate::position::PosId;
use crate::symbol::Symbol;
use crate::value::Value;

impl Machine {
    /// The names of a set as a list of strings, in the order of their bytes.
    pub fn list_names(&mut self, attrs: AttrsRef) -> Value {
        self.list_by_name(attrs, |m, attrs, at| {
            m.symbol_string(attrs.shape().symbol(at))
        })
    }

    /// The values of a set as a list, in the order of the names' bytes.
    pub fn list_values(&mut self, attrs: AttrsRef) -> Value {
        self.list_by_name(attrs, |_, attrs, at| attrs.at(at))
    }

    fn list_by_name(
        &mut self,
        attrs: AttrsRef,
        mut item: impl FnMut(&mut Machine, AttrsRef, usize) -> Value,
    ) -> Value {
        let attrs = self.heap.flat(attrs);
        let shape = attrs.shape();
        let len = shape.len();
        if len > 1 && shape.order().is_none() {
            self.sorted_attrs(attrs);
        }
        self.build_list(len, |m, i| {
            let at = shape
                .order()
                .and_then(|o| o.get(i))
                .map_or(i, |at| *at as usize);
            item(m, attrs, at)
        })
    }

    /// A list of `len` elements, each made by `item`, which may allocate. The caller has checked that so many
    /// fit into memory.
    pub fn build_list(
        &mut self,
        len: usize,
        mut item: impl FnMut(&mut Machine, usize) -> Value,
    ) -> Value {
        if len == 0 {
            return self.heap.empty_list;
        }
        let list = self.heap.list_uninit(len);
        for i in 0..len {
            let v = item(self, i);
            self.heap.list_init(list, i, v);
        }
        list
    }

    /// A set with the names of another one but no positions, each value made by `value` from name and old value.
    pub fn map_attrs(
        &mut self,
        attrs: AttrsRef,
        mut value: impl FnMut(&mut Machine, Symbol, Value) -> Value,
    ) -> Value {
        let attrs = self.heap.flat(attrs);
        let shape = self.shape_without_positions(attrs.shape());
        let new = self.heap.attrs_uninit(shape, shape.len());
        for i in 0..shape.len() {
            let v = value(self, shape.symbol(i), attrs.at(i));
            self.heap.attrs_init(new, i, v);
        }
        new
    }

    /// A set with the names of another one but no positions, each value the suspended application of `function`
    /// to name and old value.
    pub fn delay_map_attrs(&mut self, function: Value, attrs: AttrsRef) -> Value {
        let function = function.resolved();
        let mut attrs = attrs.joined();
        if attrs.depth() > MAX_LAYERS * 2 / 3 {
            // The result would soon have too many layers; and this set may be mapped more often.
            attrs = self.heap.flat(attrs);
        }
        if function.is_function() {
            if let Some((upper, lower)) = attrs.layers() {
                // As deep as there are layers, which are few.
                let upper = self.delay_map_attrs(function, upper);
                let lower = self.delay_map_attrs(function, lower);
                if let (Some(upper), Some(lower)) = (upper.as_attrs(), lower.as_attrs()) {
                    return self.heap.layered(upper, lower, None);
                }
            }
            if (SPARSE_FROM..=1 << 16).contains(&attrs.len()) {
                return self.heap.sparse_map(function, attrs);
            }
        }
        let attrs = self.heap.flat(attrs);
        let shape = self.shape_without_positions(attrs.shape());
        let new = self.heap.attrs_uninit(shape, shape.len());
        for i in 0..shape.len() {
            let short = if function.is_function() {
                self.heap.apply_attr_thunk(function, attrs, i)
            } else {
                None
            };
            let v = match short {
                Some(v) => v,
                None => {
                    let name = self.symbol_string(shape.symbol(i));
                    self.delay_call2(function, name, attrs.at(i))
                }
            };
            self.heap.attrs_init(new, i, v);
        }
        new
    }

    pub(crate) fn shape_without_positions(&mut self, shape: Shape) -> Shape {
        let names = (0..shape.len()).map(|i| (shape.symbol(i), PosId::NONE));
        if (0..shape.len()).all(|i| shape.pos(i).is_none()) {
            return shape;
        }
        if shape.is_static() || shape.len() <= crate::machine::INTERN_UP_TO {
            let fixed = shape.is_static();
            return self.interned_shape(names, fixed);
        }
        let new = self.heap.shape(names);
        new.share_order(shape);
        new
    }

    /// A set of a few attributes whose names are always the same: its shape is shared by all of them.
    pub fn record<const N: usize>(&mut self, mut entries: [(Symbol, Value); N]) -> Value {
        entries.sort_unstable_by_key(|(symbol, _)| *symbol);
        let shape = self.interned_shape(
            entries.iter().map(|(symbol, _)| (*symbol, PosId::NONE)),
            true,
        );
        let new = self.heap.attrs_uninit(shape, N);
        for (i, (_, v)) in entries.iter().enumerate() {
            self.heap.attrs_init(new, i, *v);
        }
        new
    }

    /// The attributes of a set whose names are not among `names`, which this sorts. Searches for the names if they
    /// are few: time O(names · log names + result).
    pub fn without_attrs(&mut self, attrs: AttrsRef, names: &mut [Symbol]) -> Value {
        names.sort_unstable();
        let attrs = self.heap.flat(attrs);
        let shape = attrs.shape();
        let mut removed = 0;
        let mut from = 0;
        for (i, name) in names.iter().enumerate() {
            if i > 0 && names.get(i - 1) == Some(name) {
                continue;
            }
            match shape.lower_bound(from, *name) {
                Ok(at) => {
                    from = at + 1;
                    removed += 1;
                }
                Err(at) => from = at,
            }
        }
        if removed == 0 {
            return attrs.value();
        }
        let len = shape.len() - removed;
        if len <= crate::machine::INTERN_UP_TO || attrs.is_sparse() {
            let mut kept = std::mem::take(&mut self.scratch);
            kept.clear();
            let mut gone = names.iter().peekable();
            for (symbol, set, at) in attrs.places() {
                while gone.next_if(|name| **name < symbol).is_some() {}
                if gone.peek() != Some(&&symbol) {
                    kept.push((symbol, set.position_at(at), set.at(at)));
                }
            }
            let v = self.attrs_sorted(&kept);
            self.scratch = kept;
            return v;
        }
        let new_shape = self.heap.shape_uninit(len);
        let new = self.heap.attrs_uninit(new_shape, len);
        let (mut from, mut to) = (0, 0);
        for name in names.iter() {
            // A name that occurs twice is not found again after the first one's place.
            if let Ok(at) = shape.lower_bound(from, *name) {
                new_shape.copy(to, shape, from, at - from);
                self.heap.attrs_copy(new, to, attrs, from, at - from);
                to += at - from;
                from = at + 1;
            }
        }
        let rest = shape.len() - from;
        if rest > 0 {
            new_shape.copy(to, shape, from, rest);
            self.heap.attrs_copy(new, to, attrs, from, rest);
        }
        new
    }

    /// The attributes of `right` whose names are also in `left`. Time O(smaller · log larger).
    pub fn intersect_attrs(&mut self, left: AttrsRef, right: AttrsRef) -> Value {
        if left.flat_shape().is_some() && left.flat_shape() == right.flat_shape() {
            return right.value();
        }
        if left.is_empty() || right.is_empty() {
            return self.heap.empty_attrs;
        }
        let mut common = Vec::new();
        if left.len_at_most() < right.len_at_most() {
            // The larger side may be a whole package set: it is searched, not joined.
            for symbol in left.names() {
                if let Some((value, pos)) = right.entry(symbol) {
                    common.push((symbol, pos, value));
                }
            }
        } else {
            let found = right
                .places()
                .filter(|(symbol, ..)| left.position(*symbol).is_some());
            common.extend(found.map(|(symbol, set, at)| (symbol, set.position_at(at), set.at(at))));
        }
        if right.flat_shape().is_some_and(|s| s.len() == common.len()) {
            return right.value();
        }
        self.attrs_sorted(&common)
    }

    /// A list of `list`'s elements from `first` on.
    pub fn list_from(&mut self, list: ListRef, first: usize) -> Value {
        let len = list.len().saturating_sub(first);
        self.build_list(len, |_, i| list.get(first + i).unwrap_or(Value::NULL))
    }

    /// The concatenation of the locals from `first` on, which must be lists and are removed.
    ///
    /// # Errors
    /// When the memory limit forbids it.
    pub fn concat_list_locals(&mut self, activation: &Activation, first: usize) -> Result<Value> {
        let at = (activation.base + first).min(self.stack.len());
        let mut total = 0;
        for i in at..self.stack.len() {
            let v = self.stack.get(i).copied().unwrap_or(Value::NULL).resolved();
            total += self.want_list(v)?.len();
            if let Some(slot) = self.stack.get_mut(i) {
                *slot = v;
            }
        }
        if total > 1 << 12 {
            self.check_memory(total.saturating_mul(size_of::<Value>()))?;
        }
        let list = self.heap.concat_lists(self.stack.get(at..).unwrap_or(&[]));
        self.stack.truncate(at);
        Ok(list)
    }

    /// Whether a value can be called: a function, or a set with `__functor`.
    pub fn is_callable(&self, v: Value) -> bool {
        v.is_function()
            || v.as_attrs()
                .is_some_and(|a| a.get(self.known.functor).is_some())
    }

    /// Whether a function is the builtin of this name, not applied to anything yet.
    pub fn is_builtin(&self, function: FunctionRef, name: &str) -> bool {
        match function.callee() {
            Callee::Primop(i) => self
                .builtins
                .get(i as usize)
                .is_some_and(|b| b.name == name),
            _ => false,
        }
    }

    /// The set that `builtins.functionArgs` returns: for each name of a function's set pattern whether it has a
    /// default. Remembered per function text.
    pub fn function_args(&mut self, function: FunctionRef) -> Value {
        let lambda: &Lambda = match function.callee() {
            Callee::Closure(lambda, _) => {
                let lambda = lambda_of(lambda);
                if lambda.arity != 1 {
                    return self.heap.empty_attrs;
                }
                lambda
            }
            Callee::Partial => match FunctionRef(function.partial_callee()).callee() {
                Callee::Closure(lambda, _) => {
                    let lambda = lambda_of(lambda);
                    if lambda.arity as usize != function.partial_len() + 1 {
                        return self.heap.empty_attrs;
                    }
                    lambda
                }
                _ => return self.heap.empty_attrs,
            },
            Callee::Primop(_) => return self.heap.empty_attrs,
        };
        let Some(formals) = &lambda.formals else {
            return self.heap.empty_attrs;
        };
        if lambda.args.get() == Value::EMPTY {
            let entries: Vec<(Symbol, PosId, Value)> = formals
                .entries
                .iter()
                .map(|f| {
                    let optional = !matches!(f.default, FormalDefault::Required);
                    (f.symbol, f.pos, Value::bool(optional))
                })
                .collect();
            let v = self.attrs_sorted(&entries);
            lambda.args.set(v);
        }
        lambda.args.get()
    }
}
