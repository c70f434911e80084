//! A program in words.
//!
//! In: a program or a schedule. Out: one line an operation, as `bench engine --plan` prints it.

use std::fmt;

use super::passes::PASSES;
use super::schedule::{Schedule, Wishes};
use super::{FusedConv, Op, Program, Value, Weights};
use crate::Result;

impl fmt::Display for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut part = "";
        for node in self.nodes() {
            if node.part != part {
                part = node.part;
                writeln!(f, "{part}")?;
            }
            writeln!(f, "  {}", Line { program: self, op: &node.op })?;
        }
        Ok(())
    }
}

/// A published program, what each pass makes of it, and the waves of the last form.
///
/// # Errors
/// As [`Schedule::new`].
pub fn stages(mut program: Program) -> Result<String> {
    let head = |name: &str, program: &Program| format!("== {name}: {} operations\n", program.nodes().len());
    let mut text = head("as published", &program) + &program.to_string();
    for pass in PASSES {
        (pass.run)(&mut program);
        text += &head(&format!("after {}", pass.name), &program);
        text += &program.to_string();
    }
    let schedule = Schedule::new(&program, Wishes::default())?;
    text += &format!(
        "== schedule: {} waves, {} storages (@storage.piece)\n{}",
        schedule.waves.len(),
        schedule.storages.len(),
        program.scheduled(&schedule)
    );
    Ok(text)
}

impl Program {
    /// The program wave by wave, with the storage of every value written.
    pub fn scheduled<'a>(&'a self, schedule: &'a Schedule) -> impl fmt::Display + 'a {
        Scheduled { program: self, schedule }
    }
}

struct Scheduled<'a> {
    program: &'a Program,
    schedule: &'a Schedule,
}

impl fmt::Display for Scheduled<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (wave, nodes) in self.schedule.waves.iter().enumerate() {
            let part = nodes.first().map_or("", |&n| self.program.nodes()[n].part);
            writeln!(f, "wave {wave} ({part})")?;
            for &node in nodes {
                let op = &self.program.nodes()[node].op;
                write!(f, "  {}", Line { program: self.program, op })?;
                for value in op.writes() {
                    if let Some(p) = self.schedule.placement(value) {
                        write!(f, " @{}", p.storage)?;
                        if self.schedule.storages[p.storage].pieces.len() > 1 {
                            write!(f, ".{}", p.piece)?;
                        }
                    }
                }
                writeln!(f)?;
            }
        }
        Ok(())
    }
}

struct Line<'a> {
    program: &'a Program,
    op: &'a Op,
}

impl Line<'_> {
    fn name(&self, value: Value) -> &str {
        &self.program.fact(value).name
    }

    fn names(&self, values: &[Value]) -> String {
        values.iter().map(|v| self.name(*v)).collect::<Vec<_>>().join(", ")
    }

    fn result(&self, value: Value) -> String {
        let fact = self.program.fact(value);
        format!("{} [{}, {}, {}]", fact.name, fact.channels, fact.height, fact.width)
    }

    fn conv(&self, of: Value, weights: &Weights, stride: usize) -> String {
        let Weights { size, bias, norm, .. } = weights;
        let stride = if stride == 1 { String::new() } else { format!(" stride {stride}") };
        let bias = if bias.is_some() { " bias" } else { "" };
        let norm = if norm.is_some() { " norm" } else { "" };
        format!("conv {size}x{size}{stride}{bias}{norm} of {}", self.name(of))
    }

    fn fused(&self, conv: &FusedConv) -> String {
        let sources: Vec<String> =
            conv.sources.iter().map(|s| self.conv(s.of, &s.weights, s.stride)).collect();
        let mut text = sources.join(" + ");
        if let Some(residual) = conv.residual {
            text += &format!(" + {}", self.name(residual));
        }
        if conv.relu {
            text += ", relu";
        }
        for out in &conv.outs {
            text += &format!(" → {}", self.result(out.to));
        }
        if let Some((add, to)) = conv.also {
            text += &format!(", + {} → {}", self.name(add), self.result(to));
        }
        if let Some(sum) = conv.sum {
            text += &format!(", channel sum → {}", self.result(sum));
        }
        text
    }
}

impl fmt::Display for Line<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let arrow = |text: String, to: &Value| format!("{text} → {}", self.result(*to));
        let text = match self.op {
            Op::Input { to } => arrow("input".to_owned(), to),
            Op::Conv { of, stride, weights, to } => arrow(self.conv(*of, weights, *stride), to),
            Op::Norm { of, at, to } => arrow(format!("norm {at} of {}", self.name(*of)), to),
            Op::Relu { of, to } => arrow(format!("relu of {}", self.name(*of)), to),
            Op::Add { a, b, to } => arrow(format!("{} + {}", self.name(*a), self.name(*b)), to),
            Op::Slice { of, from, to } => arrow(format!("channels {from}… of {}", self.name(*of)), to),
            Op::Concat { of, to } => arrow(format!("concat of {}", self.names(of)), to),
            Op::Pool { of, kind, to, sum } => {
                let text = arrow(format!("pool {kind:?} of {}", self.name(*of)), to);
                match sum {
                    Some(sum) => format!("{text}, channel sum → {}", self.result(*sum)),
                    None => text,
                }
            }
            Op::Resize { of, to } => arrow(format!("resize of {}", self.name(*of)), to),
            Op::Difference { a, b, norms, to } => {
                let kind = if norms.is_some() { "multi-scale difference" } else { "difference" };
                arrow(format!("{kind} of {}", self.names(&[*a, *b])), to)
            }
            Op::Fused(conv) => self.fused(conv),
            Op::Subtract { a, b, terms, to } => {
                let kind = if terms.is_some() { "multi-scale difference" } else { "difference" };
                arrow(format!("{kind} of resized {} and {}", self.name(*a), self.name(*b)), to)
            }
            Op::ResizeAdd { coarse, fine, to } => {
                arrow(format!("resized {} + {}", self.name(*coarse), self.name(*fine)), to)
            }
            Op::Logits { of, weights, to } => arrow(format!("{}, planes", self.conv(*of, weights, 1)), to),
            Op::Enlarge { of, to } => arrow(format!("resized {}, for the caller", self.name(*of)), to),
        };
        f.write_str(&text)
    }
}
