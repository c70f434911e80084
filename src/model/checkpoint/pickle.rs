//! As much of Python's pickle as a state dict needs: a stack machine that calls nothing and builds only plain data.
//!
//! In: pickle bytes, protocols 2 to 5. Out: a graph of dicts, lists, text and tensors-to-be, in one arena.
//!
//! candle's reader is not used: it panics on malformed tuples, copies shared objects each time they are mentioned (a
//! kilobyte can ask for gigabytes that way) and does not keep nested dicts. Here every opcode adds at most one node and
//! nodes refer to each other by number, so that time and memory are bounded by the length of the input, depth does not
//! matter and cycles do no harm.
//!
//! Format: Python's `pickletools`; what PyTorch puts in: `torch/_utils.py` (`_rebuild_tensor_v2` and its kin).

use std::collections::HashMap;

use super::values::Kind;

/// Far more than a training checkpoint's optimiser state needs.
const MOST_NODES: usize = 2_000_000;

/// More than any tensor of PyTorch has in practice; kernels have four.
const MOST_DIMENSIONS: usize = 8;

/// Number of a node in the arena.
pub(super) type Id = u32;

/// A place in a storage: what a tensor is before its bytes are looked at.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct View {
    pub storage: Id,
    /// In elements.
    pub offset: u64,
    pub shape: Vec<usize>,
    /// In elements.
    pub stride: Vec<u64>,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Node<'a> {
    /// None, numbers that are no integers, sets, bytes: never needed.
    Other,
    Bool(bool),
    Int(i64),
    Text(&'a str),
    Tuple(Vec<Id>),
    List(Vec<Id>),
    Dict(Vec<(Id, Id)>),
    Global(&'a str, &'a str),
    /// Values of one type under one key; `None` for types that parameters do not have.
    Storage {
        kind: Option<Kind>,
        class: &'a str,
        key: &'a str,
        len: u64,
    },
    Tensor(View),
    /// An object that only Python could build, by the name of what would build it.
    Object(&'a str, &'a str),
}

/// What a pickle evaluates to.
pub(super) struct Graph<'a> {
    nodes: Vec<Node<'a>>,
    pub root: Id,
    /// Bytes read, up to and with the final STOP.
    pub len: usize,
}

impl<'a> Graph<'a> {
    pub fn get(&self, id: Id) -> &Node<'a> {
        &self.nodes[id as usize]
    }

    pub fn text(&self, id: Id) -> Option<&'a str> {
        match self.get(id) {
            Node::Text(s) => Some(s),
            _ => None,
        }
    }

    /// Every storage that anything refers to.
    pub fn storages(&self) -> impl Iterator<Item = &Node<'a>> {
        self.nodes.iter().filter(|n| matches!(n, Node::Storage { .. }))
    }

    /// Evaluates the pickle at the start of `bytes`.
    ///
    /// # Errors
    /// What is wrong and at which byte.
    pub fn read(bytes: &'a [u8]) -> Result<Self, String> {
        let mut machine = Machine {
            bytes,
            at: 0,
            nodes: Vec::new(),
            stack: Vec::new(),
            marks: Vec::new(),
            memo: HashMap::new(),
            copied: 0,
        };
        loop {
            let at = machine.at;
            match machine.step() {
                Ok(None) => {}
                Ok(Some(root)) => return Ok(Graph { nodes: machine.nodes, root, len: machine.at }),
                Err(what) => return Err(format!("{what} at byte {at} of its pickle")),
            }
        }
    }
}

struct Machine<'a> {
    bytes: &'a [u8],
    at: usize,
    nodes: Vec<Node<'a>>,
    stack: Vec<Id>,
    /// Heights of the stack at the marks.
    marks: Vec<usize>,
    memo: HashMap<u32, Id>,
    /// Items copied out of shared lists, which are not paid for by bytes of the input.
    copied: usize,
}

type Step<T> = Result<T, &'static str>;

impl<'a> Machine<'a> {
    fn take(&mut self, n: usize) -> Step<&'a [u8]> {
        let end = self.at.checked_add(n).filter(|&e| e <= self.bytes.len()).ok_or("end of the data")?;
        let taken = &self.bytes[self.at..end];
        self.at = end;
        Ok(taken)
    }

    fn number<const N: usize>(&mut self) -> Step<[u8; N]> {
        Ok(self.take(N)?.try_into().expect("as many as asked for"))
    }

    fn line(&mut self) -> Step<&'a str> {
        let rest = &self.bytes[self.at..];
        let n = rest.iter().position(|&b| b == b'\n').ok_or("a line without end")?;
        self.at += n + 1;
        std::str::from_utf8(&rest[..n]).map_err(|_| "a name that is not text")
    }

    fn add(&mut self, node: Node<'a>) -> Step<Id> {
        if self.nodes.len() >= MOST_NODES {
            return Err("more objects than any checkpoint has");
        }
        self.nodes.push(node);
        Ok((self.nodes.len() - 1) as Id)
    }

    fn push(&mut self, node: Node<'a>) -> Step<()> {
        let id = self.add(node)?;
        self.stack.push(id);
        Ok(())
    }

    /// Python 2's strings are bytes; those that are no text are never a key.
    fn push_text(&mut self, bytes: &'a [u8]) -> Step<()> {
        self.push(std::str::from_utf8(bytes).map_or(Node::Other, Node::Text))
    }

    fn pop(&mut self) -> Step<Id> {
        // What lies below a mark belongs to someone else.
        if self.marks.last().is_some_and(|&m| self.stack.len() <= m) {
            return Err("an empty stack");
        }
        self.stack.pop().ok_or("an empty stack")
    }

    fn top(&self) -> Step<Id> {
        self.stack.last().copied().ok_or("an empty stack")
    }

    fn pop_to_mark(&mut self) -> Step<Vec<Id>> {
        let mark = self.marks.pop().ok_or("no mark")?;
        if mark > self.stack.len() {
            return Err("an empty stack");
        }
        Ok(self.stack.split_off(mark))
    }

    fn pairs(items: &[Id]) -> Step<Vec<(Id, Id)>> {
        if !items.len().is_multiple_of(2) {
            return Err("a key without a value");
        }
        Ok(items.as_chunks::<2>().0.iter().map(|&[k, v]| (k, v)).collect())
    }

    fn append(&mut self, items: Vec<Id>) -> Step<()> {
        let top = self.top()?;
        match &mut self.nodes[top as usize] {
            Node::List(list) => list.extend(items),
            // A list's subclass, a set.
            Node::Object(..) | Node::Other => {}
            _ => return Err("an element for something that is no list"),
        }
        Ok(())
    }

    fn set(&mut self, items: &[Id]) -> Step<()> {
        let items = Self::pairs(items)?;
        let top = self.top()?;
        match &mut self.nodes[top as usize] {
            Node::Dict(dict) => dict.extend(items),
            Node::Object(..) | Node::Other => {}
            _ => return Err("an item for something that is no dict"),
        }
        Ok(())
    }

    fn remember(&mut self, slot: u32) -> Step<()> {
        let top = self.top()?;
        self.memo.insert(slot, top);
        Ok(())
    }

    fn recall(&mut self, slot: u32) -> Step<()> {
        let id = *self.memo.get(&slot).ok_or("something that was never there")?;
        self.stack.push(id);
        Ok(())
    }

    /// Runs one opcode; the root once it is STOP.
    fn step(&mut self) -> Step<Option<Id>> {
        match self.number::<1>()?[0] {
            // PROTO, FRAME
            0x80 => {
                if self.number::<1>()?[0] > 5 {
                    return Err("a protocol from the future");
                }
            }
            0x95 => {
                self.take(8)?;
            }
            b'.' => return self.pop().map(Some),
            b'(' => self.marks.push(self.stack.len()),
            b'0' => {
                self.pop()?;
            }
            b'1' => {
                self.pop_to_mark()?;
            }
            b'2' => self.stack.push(self.top()?),
            b'N' => self.push(Node::Other)?,
            0x88 => self.push(Node::Bool(true))?,
            0x89 => self.push(Node::Bool(false))?,
            b'J' => {
                let n = i32::from_le_bytes(self.number()?);
                self.push(Node::Int(n.into()))?;
            }
            b'K' => {
                let [n] = self.number()?;
                self.push(Node::Int(n.into()))?;
            }
            b'M' => {
                let n = u16::from_le_bytes(self.number()?);
                self.push(Node::Int(n.into()))?;
            }
            // LONG1, LONG4
            0x8a => {
                let [n] = self.number()?;
                self.long(n.into())?;
            }
            0x8b => {
                let n = self.length4()?;
                self.long(n)?;
            }
            b'G' => {
                self.take(8)?;
                self.push(Node::Other)?;
            }
            // Text: BINUNICODE, SHORT_BINUNICODE, BINUNICODE8, BINSTRING, SHORT_BINSTRING
            b'X' | b'T' => {
                let n = self.length4()?;
                let s = self.take(n)?;
                self.push_text(s)?;
            }
            0x8c | b'U' => {
                let [n] = self.number()?;
                let s = self.take(n.into())?;
                self.push_text(s)?;
            }
            0x8d => {
                let n = self.length8()?;
                let s = self.take(n)?;
                self.push_text(s)?;
            }
            // Bytes: BINBYTES, SHORT_BINBYTES, BINBYTES8, BYTEARRAY8
            b'B' => {
                let n = self.length4()?;
                self.take(n)?;
                self.push(Node::Other)?;
            }
            b'C' => {
                let [n] = self.number()?;
                self.take(n.into())?;
                self.push(Node::Other)?;
            }
            0x8e | 0x96 => {
                let n = self.length8()?;
                self.take(n)?;
                self.push(Node::Other)?;
            }
            b']' => self.push(Node::List(Vec::new()))?,
            b'l' => {
                let items = self.pop_to_mark()?;
                self.push(Node::List(items))?;
            }
            b'a' => {
                let item = self.pop()?;
                self.append(vec![item])?;
            }
            b'e' => {
                let items = self.pop_to_mark()?;
                self.append(items)?;
            }
            b')' => self.push(Node::Tuple(Vec::new()))?,
            b't' => {
                let items = self.pop_to_mark()?;
                self.push(Node::Tuple(items))?;
            }
            n @ 0x85..=0x87 => {
                let mut items = vec![0; usize::from(n - 0x84)];
                for item in items.iter_mut().rev() {
                    *item = self.pop()?;
                }
                self.push(Node::Tuple(items))?;
            }
            b'}' => self.push(Node::Dict(Vec::new()))?,
            b'd' => {
                let items = self.pop_to_mark()?;
                self.push(Node::Dict(Self::pairs(&items)?))?;
            }
            b's' => {
                let value = self.pop()?;
                let key = self.pop()?;
                self.set(&[key, value])?;
            }
            b'u' => {
                let items = self.pop_to_mark()?;
                self.set(&items)?;
            }
            // EMPTY_SET, ADDITEMS, FROZENSET
            0x8f => self.push(Node::Other)?,
            0x90 => {
                self.pop_to_mark()?;
                self.top()?;
            }
            0x91 => {
                self.pop_to_mark()?;
                self.push(Node::Other)?;
            }
            // GLOBAL, STACK_GLOBAL
            b'c' => {
                let module = self.line()?;
                let name = self.line()?;
                self.push(Node::Global(module, name))?;
            }
            0x93 => {
                let (name, module) = (self.pop()?, self.pop()?);
                match (&self.nodes[module as usize], &self.nodes[name as usize]) {
                    (&Node::Text(module), &Node::Text(name)) => self.push(Node::Global(module, name))?,
                    _ => return Err("a name that is not text"),
                }
            }
            // REDUCE, NEWOBJ, NEWOBJ_EX
            b'R' | 0x81 => {
                let (args, callable) = (self.pop()?, self.pop()?);
                let built = self.call(callable, args)?;
                self.stack.push(built);
            }
            0x92 => {
                self.pop()?;
                let (args, callable) = (self.pop()?, self.pop()?);
                let built = self.call(callable, args)?;
                self.stack.push(built);
            }
            // BUILD: attributes of an object, such as a state dict's `_metadata`.
            b'b' => {
                self.pop()?;
                self.top()?;
            }
            b'Q' => {
                let id = self.pop()?;
                let storage = self.storage(id).ok_or("a reference to something that is no storage")?;
                self.push(storage)?;
            }
            b'h' => {
                let [slot] = self.number()?;
                self.recall(slot.into())?;
            }
            b'j' => {
                let slot = u32::from_le_bytes(self.number()?);
                self.recall(slot)?;
            }
            b'q' => {
                let [slot] = self.number()?;
                self.remember(slot.into())?;
            }
            b'r' => {
                let slot = u32::from_le_bytes(self.number()?);
                self.remember(slot)?;
            }
            0x94 => {
                let slot = self.memo.len() as u32;
                self.remember(slot)?;
            }
            _ => return Err("an unknown instruction"),
        }
        Ok(None)
    }

    fn length4(&mut self) -> Step<usize> {
        usize::try_from(u32::from_le_bytes(self.number()?)).map_err(|_| "an impossible length")
    }

    fn length8(&mut self) -> Step<usize> {
        usize::try_from(u64::from_le_bytes(self.number()?)).map_err(|_| "an impossible length")
    }

    /// A little-endian two's complement integer; one too long for i64 is never needed.
    fn long(&mut self, n: usize) -> Step<()> {
        let bytes = self.take(n)?;
        if n > 8 {
            return self.push(Node::Other);
        }
        let negative = bytes.last().is_some_and(|b| b & 0x80 != 0);
        let mut wide = [if negative { 0xff } else { 0 }; 8];
        wide[..n].copy_from_slice(bytes);
        self.push(Node::Int(i64::from_le_bytes(wide)))
    }

    fn node(&self, id: Id) -> &Node<'a> {
        &self.nodes[id as usize]
    }

    fn items(&self, id: Id) -> Option<&[Id]> {
        match self.node(id) {
            Node::Tuple(items) | Node::List(items) => Some(items),
            _ => None,
        }
    }

    fn unsigned(&self, id: Id) -> Option<u64> {
        match self.node(id) {
            Node::Int(n) => u64::try_from(*n).ok(),
            _ => None,
        }
    }

    /// `('storage', torch.FloatStorage, key, location, number of elements[, view of another storage])`.
    fn storage(&self, id: Id) -> Option<Node<'a>> {
        let items = self.items(id)?;
        let (&Node::Text("storage"), &Node::Global(_, class), &Node::Text(key)) =
            (self.node(*items.first()?), self.node(*items.get(1)?), self.node(*items.get(2)?))
        else {
            return None;
        };
        let len = self.unsigned(*items.get(4)?)?;
        if items.get(5).is_some_and(|&view| *self.node(view) != Node::Other) {
            return None;
        }
        let kind = match class {
            "DoubleStorage" => Some(Kind::F64),
            "FloatStorage" => Some(Kind::F32),
            "HalfStorage" => Some(Kind::F16),
            "BFloat16Storage" => Some(Kind::Bf16),
            _ => None,
        };
        Some(Node::Storage { kind, class, key, len })
    }

    /// What `callable(*args)` builds. Nothing is run: the few functions a state dict needs are known by name.
    fn call(&mut self, callable: Id, args: Id) -> Step<Id> {
        let &Node::Global(module, name) = self.node(callable) else {
            return self.add(Node::Other);
        };
        match (module, name) {
            ("collections", "OrderedDict") => {
                let list = match self.items(args) {
                    Some(&[list]) => self.items(list).unwrap_or_default(),
                    _ => &[],
                };
                let pair = |&item: &Id| match self.items(item) {
                    Some(&[key, value]) => Some((key, value)),
                    _ => None,
                };
                let copied = self.copied + list.len();
                if copied > MOST_NODES {
                    return Err("more objects than any checkpoint has");
                }
                let pairs = list.iter().filter_map(pair).collect();
                self.copied = copied;
                self.add(Node::Dict(pairs))
            }
            ("torch._utils", "_rebuild_tensor_v2" | "_rebuild_tensor") => {
                let view = self.view(args).ok_or("a malformed tensor")?;
                self.add(Node::Tensor(view))
            }
            // The tensor itself is the first argument.
            ("torch._utils", "_rebuild_parameter" | "_rebuild_parameter_with_state") => {
                match self.items(args) {
                    Some(&[tensor, ..]) => Ok(tensor),
                    _ => Err("a malformed parameter"),
                }
            }
            // (function, type, arguments, state): the function is one of those above.
            ("torch._tensor", "_rebuild_from_type_v2") => match self.items(args) {
                Some(&[inner, _, args, ..])
                    if matches!(self.node(inner), Node::Global("torch._utils", _)) =>
                {
                    self.call(inner, args)
                }
                _ => Err("a malformed tensor"),
            },
            _ => self.add(Node::Object(module, name)),
        }
    }

    /// `(storage, offset, shape, stride, …)`.
    fn view(&self, args: Id) -> Option<View> {
        let &[storage, offset, shape, stride, ..] = self.items(args)? else {
            return None;
        };
        if !matches!(self.node(storage), Node::Storage { .. }) {
            return None;
        }
        let offset = self.unsigned(offset)?;
        // Sizes may be shared with other tensors: only a few are ever copied.
        let (dimensions, strides) = (self.items(shape)?.len(), self.items(stride)?.len());
        if dimensions != strides || dimensions > MOST_DIMENSIONS {
            return None;
        }
        let numbers =
            |id: Id| self.items(id)?.iter().map(|&i| self.unsigned(i)).collect::<Option<Vec<u64>>>();
        let (shape, stride) = (numbers(shape)?, numbers(stride)?);
        let shape = shape.into_iter().map(|n| usize::try_from(n).ok()).collect::<Option<Vec<usize>>>()?;
        Some(View { storage, offset, shape, stride })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn reads_what_python_writes() {
        // pickletools.dis of pickle.dumps({'a': [1, -2, 70000, 2**40], 'b': (True, None, 1.5)}, 2)
        let bytes = b"\x80\x02}q\x00(X\x01\x00\x00\x00aq\x01]q\x02(K\x01J\xfe\xff\xff\xffJp\x11\x01\x00\x8a\x06\x00\x00\x00\x00\x00\x01eX\x01\x00\x00\x00bq\x03\x88NG?\xf8\x00\x00\x00\x00\x00\x00\x87q\x04u.tail";
        let g = Graph::read(bytes).unwrap();
        assert_eq!(g.len, bytes.len() - 4);
        let Node::Dict(items) = g.get(g.root) else { panic!("a dict") };
        assert_eq!(items.iter().map(|(k, _)| g.text(*k).unwrap()).collect::<Vec<_>>(), ["a", "b"]);
        let Node::List(list) = g.get(items[0].1) else { panic!("a list") };
        let numbers: Vec<&Node> = list.iter().map(|&i| g.get(i)).collect();
        assert_eq!(numbers, [&Node::Int(1), &Node::Int(-2), &Node::Int(70000), &Node::Int(1 << 40)]);
    }

    /// Shared objects stay shared: each doubling costs one node, where copying would need 2^200 of them.
    #[test]
    fn a_thousand_laughs_cost_a_thousand_nodes() {
        let mut bytes = vec![0x80, 2, b']', b'q', 0];
        for _ in 0..200 {
            bytes.extend([b'h', 0, b'h', 0, 0x86, b'q', 0]);
        }
        bytes.push(b'.');
        let g = Graph::read(&bytes).unwrap();
        assert_eq!(g.nodes.len(), 201);
    }

    #[test]
    fn depth_and_cycles_do_no_harm() {
        let mut deep = vec![b')'];
        deep.extend(std::iter::repeat_n(0x85, 1_000_000));
        deep.push(b'.');
        assert!(Graph::read(&deep).is_ok());
        assert!(Graph::read(b"]q\x00h\x00a.").is_ok(), "a list that holds itself");
        let mut many = vec![b')'; MOST_NODES + 1];
        many.push(b'.');
        assert!(Graph::read(&many).is_err_and(|e| e.starts_with("more objects")));
    }

    #[test]
    fn lengths_beyond_the_data_are_errors() {
        for bytes in [
            &b"X\xff\xff\xff\xffab"[..],
            b"\x8d\xff\xff\xff\xff\xff\xff\xff\xffab",
            b"\x8b\xff\xff\xff\xff",
            b"\x8a\x09",
            b"cno line",
            b"",
        ] {
            assert!(Graph::read(bytes).is_err(), "{bytes:?}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4096))]

        /// Any sequence of opcodes and bytes ends in a graph or in a sentence.
        #[test]
        fn never_panics(bytes in prop::collection::vec(
            prop_oneof![
                prop::sample::select(b"(.012NJKMGXTUBC]lae)t}dsucRbQhjqr".to_vec()),
                0x80u8..0x97,
                any::<u8>(),
            ],
            0..200,
        )) {
            if let Ok(g) = Graph::read(&bytes) {
                prop_assert!(g.nodes.len() <= bytes.len() && (g.root as usize) < g.nodes.len());
            }
        }
    }
}
