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

use super::budget::{Budget, LONGEST_INDEX, MOST_DIMENSIONS, Spent};
use super::source::Fault;
use super::values::Kind;

/// What to do about a file that holds more than parameters.
pub(super) const SAVE_STATE_DICT: &str = "load it in PyTorch and save model.state_dict() with torch.save";

/// Far more than a training checkpoint's optimiser state needs.
const MOST_NODES: usize = 2_000_000;

/// What a step is charged, in bytes: growing arrays hold their former half while they move, and what was on the stack
/// lies in a list, a tuple or a dict afterwards.
const NODE: usize = 2 * size_of::<Node>();
const STACKED: usize = 20;
const MARK: usize = 12;
const REMEMBERED: usize = 40;
const VIEW: usize = size_of::<View>() + 2 * 8 * MOST_DIMENSIONS;

/// Nodes that say nothing of their own are shared by all who mention them.
const OTHER: Id = 0;
const FALSE: Id = 1;
const TRUE: Id = 2;

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

/// Values of one type under one key.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Storage<'a> {
    /// `None` for types that parameters do not have.
    pub kind: Option<Kind>,
    pub class: &'a str,
    pub key: &'a str,
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
    Storage(Box<Storage<'a>>),
    Tensor(Box<View>),
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
    pub fn storages(&self) -> impl Iterator<Item = &Storage<'a>> {
        self.nodes.iter().filter_map(|n| match n {
            Node::Storage(storage) => Some(storage.as_ref()),
            _ => None,
        })
    }

    /// Evaluates the pickle at the start of `bytes`.
    ///
    /// # Errors
    /// What is wrong and at which byte; more than the budget allows.
    pub fn read(bytes: &'a [u8], budget: &mut Budget) -> Result<Self, Fault> {
        let mut machine = Machine {
            bytes: &bytes[..bytes.len().min(LONGEST_INDEX)],
            at: 0,
            nodes: vec![Node::Other, Node::Bool(false), Node::Bool(true)],
            stack: Vec::new(),
            marks: Vec::new(),
            memo: HashMap::new(),
            budget,
        };
        loop {
            let at = machine.at;
            match machine.step() {
                Ok(None) => {}
                Ok(Some(root)) => return Ok(Graph { nodes: machine.nodes, root, len: machine.at }),
                Err(Wrong::Spent) => return Err(Spent.into()),
                Err(Wrong::End) if bytes.len() > LONGEST_INDEX => {
                    return Err(Fault::new(
                        format!("holds more than {} MB of Python objects", LONGEST_INDEX >> 20),
                        SAVE_STATE_DICT,
                    ));
                }
                Err(Wrong::End) => {
                    return Err(Fault::corrupt(format!("end of the data at byte {at} of its pickle")));
                }
                Err(Wrong::Is(what)) => {
                    return Err(Fault::corrupt(format!("{what} at byte {at} of its pickle")));
                }
            }
        }
    }
}

struct Machine<'a, 'b> {
    bytes: &'a [u8],
    at: usize,
    nodes: Vec<Node<'a>>,
    stack: Vec<Id>,
    /// Heights of the stack at the marks.
    marks: Vec<u32>,
    memo: HashMap<u32, Id>,
    budget: &'b mut Budget,
}

/// Why a step cannot be made.
#[derive(Debug)]
enum Wrong {
    Is(&'static str),
    /// The data end within it.
    End,
    /// It would cost more than is left of the file's budget.
    Spent,
}

impl From<Spent> for Wrong {
    fn from(_: Spent) -> Self {
        Wrong::Spent
    }
}

type Step<T> = Result<T, Wrong>;

impl<'a> Machine<'a, '_> {
    fn take(&mut self, n: usize) -> Step<&'a [u8]> {
        let end = self.at.checked_add(n).filter(|&e| e <= self.bytes.len()).ok_or(Wrong::End)?;
        let taken = &self.bytes[self.at..end];
        self.at = end;
        Ok(taken)
    }

    fn number<const N: usize>(&mut self) -> Step<[u8; N]> {
        Ok(self.take(N)?.try_into().expect("as many as asked for"))
    }

    fn line(&mut self) -> Step<&'a str> {
        let rest = &self.bytes[self.at..];
        let n = rest.iter().position(|&b| b == b'\n').ok_or(Wrong::End)?;
        self.at += n + 1;
        std::str::from_utf8(&rest[..n]).map_err(|_| Wrong::Is("a name that is not text"))
    }

    fn add(&mut self, node: Node<'a>) -> Step<Id> {
        if self.nodes.len() >= MOST_NODES {
            return Err(Wrong::Is("more objects than any checkpoint has"));
        }
        self.budget.charge(1, NODE)?;
        self.nodes.push(node);
        Ok((self.nodes.len() - 1) as Id)
    }

    fn push(&mut self, node: Node<'a>) -> Step<()> {
        let id = self.add(node)?;
        self.stack(id)
    }

    fn stack(&mut self, id: Id) -> Step<()> {
        self.budget.charge(1, STACKED)?;
        self.stack.push(id);
        Ok(())
    }

    fn mark(&mut self) -> Step<()> {
        self.budget.charge(1, MARK)?;
        self.marks.push(self.stack.len() as u32);
        Ok(())
    }

    /// Python 2's strings are bytes; those that are no text are never a key.
    fn push_text(&mut self, bytes: &'a [u8]) -> Step<()> {
        match std::str::from_utf8(bytes) {
            Ok(text) => self.push(Node::Text(text)),
            Err(_) => self.stack(OTHER),
        }
    }

    fn pop(&mut self) -> Step<Id> {
        // What lies below a mark belongs to someone else.
        if self.marks.last().is_some_and(|&m| self.stack.len() <= m as usize) {
            return Err(Wrong::Is("an empty stack"));
        }
        self.stack.pop().ok_or(Wrong::Is("an empty stack"))
    }

    fn top(&self) -> Step<Id> {
        self.stack.last().copied().ok_or(Wrong::Is("an empty stack"))
    }

    fn pop_to_mark(&mut self) -> Step<Vec<Id>> {
        let mark = self.marks.pop().ok_or(Wrong::Is("no mark"))? as usize;
        if mark > self.stack.len() {
            return Err(Wrong::Is("an empty stack"));
        }
        Ok(self.stack.split_off(mark))
    }

    fn pairs(items: &[Id]) -> Step<Vec<(Id, Id)>> {
        if !items.len().is_multiple_of(2) {
            return Err(Wrong::Is("a key without a value"));
        }
        Ok(items.as_chunks::<2>().0.iter().map(|&[k, v]| (k, v)).collect())
    }

    fn append(&mut self, items: Vec<Id>) -> Step<()> {
        let top = self.top()?;
        match &mut self.nodes[top as usize] {
            Node::List(list) => list.extend(items),
            // A list's subclass, a set.
            Node::Object(..) | Node::Other => {}
            _ => return Err(Wrong::Is("an element for something that is no list")),
        }
        Ok(())
    }

    fn set(&mut self, items: &[Id]) -> Step<()> {
        let items = Self::pairs(items)?;
        let top = self.top()?;
        match &mut self.nodes[top as usize] {
            Node::Dict(dict) => dict.extend(items),
            Node::Object(..) | Node::Other => {}
            _ => return Err(Wrong::Is("an item for something that is no dict")),
        }
        Ok(())
    }

    fn remember(&mut self, slot: u32) -> Step<()> {
        let top = self.top()?;
        self.budget.charge(1, REMEMBERED)?;
        self.memo.insert(slot, top);
        Ok(())
    }

    fn recall(&mut self, slot: u32) -> Step<()> {
        let id = *self.memo.get(&slot).ok_or(Wrong::Is("something that was never there"))?;
        self.stack(id)
    }

    /// Runs one opcode; the root once it is STOP.
    fn step(&mut self) -> Step<Option<Id>> {
        match self.number::<1>()?[0] {
            // PROTO, FRAME
            0x80 => {
                if self.number::<1>()?[0] > 5 {
                    return Err(Wrong::Is("a protocol from the future"));
                }
            }
            0x95 => {
                self.take(8)?;
            }
            b'.' => return self.pop().map(Some),
            b'(' => self.mark()?,
            b'0' => {
                self.pop()?;
            }
            b'1' => {
                self.pop_to_mark()?;
            }
            b'2' => self.stack(self.top()?)?,
            b'N' => self.stack(OTHER)?,
            0x88 => self.stack(TRUE)?,
            0x89 => self.stack(FALSE)?,
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
                self.stack(OTHER)?;
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
                self.stack(OTHER)?;
            }
            b'C' => {
                let [n] = self.number()?;
                self.take(n.into())?;
                self.stack(OTHER)?;
            }
            0x8e | 0x96 => {
                let n = self.length8()?;
                self.take(n)?;
                self.stack(OTHER)?;
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
            0x8f => self.stack(OTHER)?,
            0x90 => {
                self.pop_to_mark()?;
                self.top()?;
            }
            0x91 => {
                self.pop_to_mark()?;
                self.stack(OTHER)?;
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
                    _ => return Err(Wrong::Is("a name that is not text")),
                }
            }
            // REDUCE, NEWOBJ, NEWOBJ_EX
            b'R' | 0x81 => {
                let (args, callable) = (self.pop()?, self.pop()?);
                let built = self.call(callable, args)?;
                self.stack(built)?;
            }
            0x92 => {
                self.pop()?;
                let (args, callable) = (self.pop()?, self.pop()?);
                let built = self.call(callable, args)?;
                self.stack(built)?;
            }
            // BUILD: attributes of an object, such as a state dict's `_metadata`.
            b'b' => {
                self.pop()?;
                self.top()?;
            }
            b'Q' => {
                let id = self.pop()?;
                self.budget.charge(1, size_of::<Storage>())?;
                let storage =
                    self.storage(id).ok_or(Wrong::Is("a reference to something that is no storage"))?;
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
            _ => return Err(Wrong::Is("an unknown instruction")),
        }
        Ok(None)
    }

    fn length4(&mut self) -> Step<usize> {
        usize::try_from(u32::from_le_bytes(self.number()?)).map_err(|_| Wrong::Is("an impossible length"))
    }

    fn length8(&mut self) -> Step<usize> {
        usize::try_from(u64::from_le_bytes(self.number()?)).map_err(|_| Wrong::Is("an impossible length"))
    }

    /// A little-endian two's complement integer; one too long for i64 is never needed.
    fn long(&mut self, n: usize) -> Step<()> {
        let bytes = self.take(n)?;
        if n > 8 {
            return self.stack(OTHER);
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

    /// The items of the one argument of a call.
    fn only_list(&self, args: Id) -> &[Id] {
        match self.items(args) {
            Some(&[list]) => self.items(list).unwrap_or_default(),
            _ => &[],
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
        self.unsigned(*items.get(4)?)?;
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
        Some(Node::Storage(Box::new(Storage { kind, class, key })))
    }

    /// What `callable(*args)` builds. Nothing is run: the few functions a state dict needs are known by name.
    fn call(&mut self, callable: Id, args: Id) -> Step<Id> {
        let &Node::Global(module, name) = self.node(callable) else {
            return Ok(OTHER);
        };
        match (module, name) {
            ("collections", "OrderedDict") => {
                // Lists may be shared: what is copied out of one is not paid for by bytes of the input.
                self.budget.charge(self.only_list(args).len(), 2 * size_of::<(Id, Id)>())?;
                let list = self.only_list(args);
                let pair = |&item: &Id| match self.items(item) {
                    Some(&[key, value]) => Some((key, value)),
                    _ => None,
                };
                let pairs = list.iter().filter_map(pair).collect();
                self.add(Node::Dict(pairs))
            }
            ("torch._utils", "_rebuild_tensor_v2" | "_rebuild_tensor") => {
                self.budget.charge(1, VIEW)?;
                let view = self.view(args).ok_or(Wrong::Is("a malformed tensor"))?;
                self.add(Node::Tensor(Box::new(view)))
            }
            // The tensor itself is the first argument.
            ("torch._utils", "_rebuild_parameter" | "_rebuild_parameter_with_state") => {
                match self.items(args) {
                    Some(&[tensor, ..]) => Ok(tensor),
                    _ => Err(Wrong::Is("a malformed parameter")),
                }
            }
            // (function, type, arguments, state): the function is one of those above.
            ("torch._tensor", "_rebuild_from_type_v2") => match self.items(args) {
                Some(&[inner, _, args, ..])
                    if matches!(self.node(inner), Node::Global("torch._utils", _)) =>
                {
                    self.call(inner, args)
                }
                _ => Err(Wrong::Is("a malformed tensor")),
            },
            _ => self.add(Node::Object(module, name)),
        }
    }

    /// `(storage, offset, shape, stride, …)`.
    fn view(&self, args: Id) -> Option<View> {
        let &[storage, offset, shape, stride, ..] = self.items(args)? else {
            return None;
        };
        if !matches!(self.node(storage), Node::Storage(_)) {
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

    fn read(bytes: &[u8]) -> Result<Graph<'_>, Fault> {
        Graph::read(bytes, &mut Budget::new())
    }

    #[test]
    fn reads_what_python_writes() {
        // pickletools.dis of pickle.dumps({'a': [1, -2, 70000, 2**40], 'b': (True, None, 1.5)}, 2)
        let bytes = b"\x80\x02}q\x00(X\x01\x00\x00\x00aq\x01]q\x02(K\x01J\xfe\xff\xff\xffJp\x11\x01\x00\x8a\x06\x00\x00\x00\x00\x00\x01eX\x01\x00\x00\x00bq\x03\x88NG?\xf8\x00\x00\x00\x00\x00\x00\x87q\x04u.tail";
        let g = read(bytes).unwrap();
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
        let g = read(&bytes).unwrap();
        assert_eq!(g.nodes.len(), 3 + 201);
    }

    #[test]
    fn depth_and_cycles_do_no_harm() {
        let mut deep = vec![b')'];
        deep.extend(std::iter::repeat_n(0x85, 1_000_000));
        deep.push(b'.');
        assert!(read(&deep).is_ok());
        assert!(read(b"]q\x00h\x00a.").is_ok(), "a list that holds itself");
        let mut many = vec![b')'; MOST_NODES + 1];
        many.push(b'.');
        assert!(read(&many).is_err_and(|e| e.to_string().contains("more objects")));
    }

    /// One byte asks for a mark, an object, a place on the stack or in the memo: each is charged.
    #[test]
    fn every_instruction_is_charged() {
        // Each as long as a pickle may be. The first byte stands before the repeated ones.
        for (first, repeated) in [
            (&b""[..], &b"("[..]),
            (b"", b"]"),
            (b"", b"K\x07"),
            (b"N", b"2"),
            (b"", b"N"),
            (b"N", b"\x94"),
            (b"]q\0", b"h\0a"),
        ] {
            let mut bytes = first.to_vec();
            bytes.extend(repeated.iter().copied().cycle().take(LONGEST_INDEX));
            let e = read(&bytes).err().map(|e| e.to_string()).unwrap();
            assert!(
                ["asks for more than", "more objects", "holds more than", "end of the data"]
                    .iter()
                    .any(|w| e.contains(w)),
                "{repeated:?}: {e}"
            );
        }
        let mut budget = Budget::new();
        let marks = vec![b'('; LONGEST_INDEX];
        for _ in 0..2 {
            let _ = Graph::read(&marks, &mut budget);
        }
        assert!(budget.charge(1, 32 << 20).is_err(), "marks cost nothing");
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
            assert!(read(bytes).is_err(), "{bytes:?}");
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
            if let Ok(g) = read(&bytes) {
                prop_assert!(g.nodes.len() <= 3 + bytes.len() && (g.root as usize) < g.nodes.len());
            }
        }
    }
}
