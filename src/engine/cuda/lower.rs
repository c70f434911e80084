//! A fused program becomes launches: which, in which order, over which maps.
//!
//! In: a program, a checkpoint, a device. Out: a [`Plan`]. Waves and lifetimes are the schedule's; layout, packing and
//! the cut of each launch are decided here and in [`super::assemble`]. No network is known here.

use super::assemble::{Assembly, Finish, Planned, Source};
use super::launch::{Device, Kernel, Launch};
use super::maps::{Map, View};
use super::pack::Spread;
use super::params::{Address, Enter, Exit, Join, Last, Pool, Statistics, Subtract};
use crate::engine::folded_conv::{Affine, Layer};
use crate::model::Checkpoint;
use crate::program::schedule::Wishes;
use crate::program::{self, Form, FusedConv, Op, Program, Schedule, Storage, Value, Weights};
use crate::{Error, Result};

/// Channels of the map the stem reads: R, G, B and zeros.
const INPUT_CHANNELS: usize = 8;

/// Channels that the kernels for subtraction units, joins and the last convolution are written for.
const DECODER_CHANNELS: usize = 64;

/// The network on a device: everything between the stem's map and the logits.
pub(crate) struct Plan {
    pub(crate) steps: Vec<Planned>,
    /// Normalised planes into the stem's map, for callers that have planes.
    pub(crate) enter: Launch,
    /// `[3][height][width]` f32, what `enter` reads.
    pub(crate) planes: Address,
    /// `[height][width][8]` f16, for those who fill it themselves.
    pub(crate) input: Address,
    /// `[classes][height][width]` f32.
    pub(crate) logits: Address,
    pub(crate) statistics: Address,
    /// Bytes of activations and of parameters.
    pub(crate) bytes: (usize, usize),
    /// Where each value can be seen after the step of this number, and how it lies there.
    #[cfg(test)]
    pub(crate) probes: Vec<(usize, Value, Site)>,
}

/// Where a value lies while it lives.
#[cfg(test)]
#[derive(Clone, Copy, Debug)]
pub(crate) enum Site {
    Map(View, Spread),
    Planes(Address),
}

/// Lowers a program for one device.
pub(crate) fn lower(program: &Program, checkpoint: &Checkpoint, device: &mut dyn Device) -> Result<Plan> {
    // The pieces of a convolution's result lie side by side, because a kernel writes to two places at most.
    let schedule = Schedule::new(program, Wishes { pieces_together: true })?;
    let assembly = Assembly::new(device)?;
    let statistics = assembly.device.allocate(size_of::<Statistics>())?;
    let places = (0..schedule.storages.len()).map(|_| None).collect();
    let mut lowering = Lowering {
        program,
        checkpoint,
        schedule: &schedule,
        assembly,
        places,
        statistics,
        terms: Vec::new(),
        enter: None,
        #[cfg(test)]
        probes: Vec::new(),
    };
    for wave in 0..schedule.waves.len() {
        lowering.wave(wave)?;
    }
    let logits = lowering.plane(program.output())?;
    let Lowering { assembly, enter, .. } = lowering;
    let (enter, planes, input) = enter.ok_or_else(|| Error::internal("the engine's program has no input"))?;
    Ok(Plan {
        bytes: (assembly.maps.bytes, assembly.parameters),
        steps: assembly.steps,
        enter,
        planes,
        input,
        logits,
        statistics,
        #[cfg(test)]
        probes: lowering.probes,
    })
}

/// A storage in use.
enum Place {
    Map(Map),
    Planes(Address),
}

struct Lowering<'a, 'd> {
    program: &'a Program,
    checkpoint: &'a Checkpoint,
    schedule: &'a Schedule,
    assembly: Assembly<'d>,
    /// By storage, from its first wave to its last.
    places: Vec<Option<Place>>,
    statistics: Address,
    /// Folded batch-norms of multi-scale terms that are on the device already.
    terms: Vec<([String; 2], Address)>,
    enter: Option<(Launch, Address, Address)>,
    #[cfg(test)]
    probes: Vec<(usize, Value, Site)>,
}

impl Lowering<'_, '_> {
    fn wave(&mut self, wave: usize) -> Result<()> {
        let (program, schedule) = (self.program, self.schedule);
        for (i, storage) in schedule.storages.iter().enumerate() {
            if storage.waves.0 == wave {
                self.places[i] = Some(self.take(storage)?);
            }
        }
        for &node in &schedule.waves[wave] {
            let node = &program.nodes()[node];
            self.assembly.group = node.part;
            self.node(&node.op)?;
        }
        self.assembly.wave()?;
        #[cfg(test)]
        self.probe(wave)?;
        for (i, storage) in schedule.storages.iter().enumerate() {
            // The input is filled from outside, before the first launch.
            if storage.waves.1 == wave
                && !storage.input
                && let Some(Place::Map(_)) = &self.places[i]
                && let Some(Place::Map(map)) = self.places[i].take()
            {
                self.assembly.maps.give_back(map);
            }
        }
        self.assembly.maps.settle();
        Ok(())
    }

    #[cfg(test)]
    fn probe(&mut self, wave: usize) -> Result<()> {
        let step = self.assembly.steps.len();
        for &node in &self.schedule.waves[wave] {
            for value in self.program.nodes()[node].op.writes() {
                let site = match self.program.fact(value).form {
                    Form::Map => Site::Map(self.view(value)?, self.spread(value)?),
                    Form::Planes => Site::Planes(self.plane(value)?),
                };
                self.probes.push((step, value, site));
            }
        }
        Ok(())
    }

    fn take(&mut self, storage: &Storage) -> Result<Place> {
        let (height, width) = (storage.height, storage.width);
        if storage.form == Form::Planes {
            return Ok(Place::Planes(self.assembly.plane(height, width, storage.channels())?));
        }
        let stored: usize = match storage.input {
            true => INPUT_CHANNELS,
            false => storage.pieces.iter().map(|c| Spread::plain(*c).padded()).sum(),
        };
        Ok(Place::Map(self.assembly.map(height, width, stored)?))
    }

    fn place(&self, value: Value) -> Result<(&Place, &Storage, usize)> {
        let at = self.schedule.place(value)?;
        match &self.places[at.storage] {
            Some(place) => Ok((place, &self.schedule.storages[at.storage], at.piece)),
            None => Err(self.lost(value)),
        }
    }

    fn lost(&self, value: Value) -> Error {
        Error::internal(format!(
            "{}: the schedule does not hold what is needed",
            self.program.fact(value).name
        ))
    }

    fn view(&self, value: Value) -> Result<View> {
        match self.place(value)? {
            (Place::Map(map), storage, piece) => {
                let before = storage.pieces[..piece].iter().map(|c| Spread::plain(*c).padded()).sum();
                Ok(map.view().channel(before))
            }
            _ => Err(self.lost(value)),
        }
    }

    fn plane(&self, value: Value) -> Result<Address> {
        match self.place(value)? {
            (Place::Planes(at), _, _) => Ok(*at),
            _ => Err(self.lost(value)),
        }
    }

    /// How a value's channels lie: a concatenation's in pieces, each padded; others' without gaps.
    fn spread(&self, value: Value) -> Result<Spread> {
        let (_, storage, piece) = self.place(value)?;
        let channels = self.program.fact(value).channels;
        if channels == storage.pieces[piece] {
            return Ok(Spread::plain(channels));
        }
        let each = storage.pieces[0];
        if channels == storage.channels() && storage.pieces.iter().all(|c| *c == each) {
            return Ok(Spread { each, groups: storage.pieces.len() });
        }
        Err(Error::internal(format!(
            "{}: the CUDA engine lays out pieces of equal size only",
            self.program.fact(value).name
        )))
    }

    fn source(&self, value: Value, stride: usize) -> Result<Source> {
        let (height, width) = self.program.fact(value).size();
        Ok(Source { view: self.view(value)?, height, width, spread: self.spread(value)?, stride })
    }

    fn node(&mut self, op: &Op) -> Result<()> {
        match op {
            Op::Input { to } => self.enter(*to),
            Op::Fused(conv) => self.conv(conv),
            Op::Pool { of, kind, to, sum } => self.pool(*of, *kind, *to, *sum),
            Op::Subtract { a, b, terms, to } => self.subtract(*a, *b, terms.as_ref(), *to),
            Op::ResizeAdd { coarse, fine, to } => self.join(*coarse, *fine, *to),
            Op::Logits { of, weights, to } => self.last(*of, weights, *to),
            Op::Enlarge { of, to } => self.exit(*of, *to),
            // Concatenations are in no wave, and the schedule refused everything else.
            _ => Err(Error::internal("the CUDA engine has no kernel for an operation of this program")),
        }
    }

    fn enter(&mut self, to: Value) -> Result<()> {
        let (height, width) = self.program.fact(to).size();
        let planes = self.assembly.plane(height, width, 3)?;
        let out = self.view(to)?.address;
        let enter =
            Enter { planes, out, statistics: self.statistics, height: height as i32, width: width as i32 };
        self.enter = Some((Launch::each(Kernel::Enter, height * width, enter), planes, out));
        Ok(())
    }

    fn conv(&mut self, conv: &FusedConv) -> Result<()> {
        let Some(result) = conv.outs.first().map(|o| o.to).or(conv.also.map(|(_, to)| to)) else {
            return Err(Error::internal("a convolution of the engine's program writes nothing"));
        };
        if !conv.relu {
            return Err(Error::internal(format!(
                "{}: the CUDA engine's convolutions end in a ReLU",
                self.program.fact(result).name
            )));
        }
        let mut layers = Vec::with_capacity(conv.sources.len());
        for source in &conv.sources {
            layers.push((
                self.source(source.of, source.stride)?,
                Layer::load(self.checkpoint, &source.weights)?,
            ));
        }
        // The result in pieces: those that lie behind one another in memory are one destination.
        let mut spread = Spread::plain(self.program.fact(result).channels);
        let mut finish = Finish::default();
        if let [_, _, ..] = conv.outs.as_slice() {
            spread.groups = conv.outs.len();
        }
        let mut expected: Option<View> = None;
        for (i, out) in conv.outs.iter().enumerate() {
            if out.channels.len() != spread.each {
                return Err(self.lost(out.to));
            }
            let view = self.view(out.to)?;
            let continues = expected.is_some_and(|e| e.address == view.address && e.pitch == view.pitch);
            if !continues {
                match (i, finish.rest) {
                    (0, _) => finish.out = Some(view),
                    (_, None) => finish.rest = Some((i * spread.padded(), view)),
                    _ => return Err(self.lost(out.to)),
                }
            }
            expected = Some(view.channel(spread.padded()));
        }
        finish.residual = conv.residual.map(|v| self.view(v)).transpose()?;
        finish.also = match conv.also {
            Some((add, to)) => Some((self.view(add)?, self.view(to)?)),
            None => None,
        };
        finish.sum = conv.sum.map(|v| self.plane(v)).transpose()?;
        let parts: Vec<(Source, &Layer)> = layers.iter().map(|(s, l)| (*s, l)).collect();
        self.assembly.conv(&parts, spread, self.program.fact(result).size(), finish)
    }

    fn pool(&mut self, of: Value, kind: program::Pool, to: Value, sum: Option<Value>) -> Result<()> {
        let (from, fact) = (self.program.fact(of), self.program.fact(to));
        let (source, out) = (self.view(of)?, self.view(to)?);
        // Padded channels are pooled as well, so that they are zeros behind it.
        let channels = Spread::plain(fact.channels).padded();
        let (code, stride) = match kind {
            program::Pool::Max3 => (0, 2),
            program::Pool::Average3 { stride } => (1, stride),
            program::Pool::Average2 => (2, 2),
        };
        let pool = Pool {
            source: source.address,
            out: out.address,
            sum: sum.map(|v| self.plane(v)).transpose()?.unwrap_or(0),
            source_pitch: source.pitch as i32,
            out_pitch: out.pitch as i32,
            channels: channels as i32,
            source_height: from.height as i32,
            source_width: from.width as i32,
            height: fact.height as i32,
            width: fact.width as i32,
            kind: code,
            stride: stride as i32,
            unused: 0,
        };
        let pixels = fact.height * fact.width;
        let launch = Launch::each(Kernel::Pool, pixels * channels / 8, pool);
        let bytes = 2 * (from.height * from.width + pixels) * channels;
        let label = format!("pool, {channels} {}x{}", fact.width, fact.height);
        self.assembly.other(launch, label, 0, bytes as u64);
        Ok(())
    }

    /// The kernels below know one number of channels.
    fn decoder_map(&self, value: Value) -> Result<()> {
        let fact = self.program.fact(value);
        if fact.channels == DECODER_CHANNELS {
            return Ok(());
        }
        Err(Error::internal(format!("{}: the CUDA engine wants {DECODER_CHANNELS} channels here", fact.name)))
    }

    fn subtract(&mut self, a: Value, b: Value, terms: Option<&program::Terms>, to: Value) -> Result<()> {
        self.decoder_map(to)?;
        let (from, fact) = (self.program.fact(a), self.program.fact(to));
        let (terms, sums) = match terms {
            Some(terms) => {
                (self.terms(&terms.norms)?, [self.plane(terms.sums[0])?, self.plane(terms.sums[1])?])
            }
            None => (0, [0, 0]),
        };
        let unit = Subtract {
            a: self.view(a)?.address,
            b: self.view(b)?.address,
            out: self.view(to)?.address,
            a_sum: sums[0],
            b_sum: sums[1],
            terms,
            a_height: from.height as i32,
            a_width: from.width as i32,
            height: fact.height as i32,
            width: fact.width as i32,
            ..Default::default()
        };
        self.assembly.unit(unit);
        Ok(())
    }

    /// The folded batch-norms of a unit's multi-scale terms; units that share them share one copy.
    fn terms(&mut self, norms: &[String; 2]) -> Result<Address> {
        if let Some((_, at)) = self.terms.iter().find(|(n, _)| n == norms) {
            return Ok(*at);
        }
        let mut values = Vec::new();
        for at in norms {
            let norm = Affine::norm(self.checkpoint, at)?;
            values.extend(norm.scale);
            values.extend(norm.shift);
        }
        let at = self.assembly.constant(&values)?;
        self.terms.push((norms.clone(), at));
        Ok(at)
    }

    fn join(&mut self, coarse: Value, fine: Value, to: Value) -> Result<()> {
        self.decoder_map(to)?;
        let (from, fact) = (self.program.fact(coarse), self.program.fact(to));
        let join = Join {
            coarse: self.view(coarse)?.address,
            fine: self.view(fine)?.address,
            out: self.view(to)?.address,
            coarse_height: from.height as i32,
            coarse_width: from.width as i32,
            height: fact.height as i32,
            width: fact.width as i32,
        };
        let pixels = fact.height * fact.width;
        let bytes = 128 * (2 * pixels + from.height * from.width) as u64;
        let label = format!("join, {}x{}", fact.width, fact.height);
        self.assembly.other(Launch::each(Kernel::Join, pixels * fact.channels / 8, join), label, 0, bytes);
        Ok(())
    }

    fn last(&mut self, of: Value, weights: &Weights, to: Value) -> Result<()> {
        self.decoder_map(of)?;
        let fact = self.program.fact(to);
        let (h, w, classes, cin) = (fact.height, fact.width, fact.channels, weights.cin);
        let layer = Layer::load(self.checkpoint, weights)?;
        let mut packed = vec![0f32; classes * 9 * cin];
        for class in 0..classes {
            for tap in 0..9 {
                for c in 0..cin {
                    packed[(class * 9 + tap) * cin + c] = layer.weights[(class * cin + c) * 9 + tap];
                }
            }
        }
        let last = Last {
            source: self.view(of)?.address,
            weights: self.assembly.constant(&packed)?,
            scale: self.assembly.constant(&layer.scale)?,
            shift: self.assembly.constant(&layer.shift)?,
            out: self.plane(to)?,
            height: h as i32,
            width: w as i32,
            classes: classes as i32,
            unused: 0,
        };
        let bytes = (h * w * (128 + 4 * classes)) as u64;
        let (label, macs) = (format!("last, {w}x{h}"), layer.macs() * (h * w) as u64);
        self.assembly.other(Launch::each(Kernel::Last, h * w * 8, last), label, macs, bytes);
        Ok(())
    }

    fn exit(&mut self, of: Value, to: Value) -> Result<()> {
        let (from, fact) = (self.program.fact(of), self.program.fact(to));
        let exit = Exit {
            source: self.plane(of)?,
            out: self.plane(to)?,
            statistics: self.statistics,
            source_height: from.height as i32,
            source_width: from.width as i32,
            height: fact.height as i32,
            width: fact.width as i32,
            classes: fact.channels as i32,
            unused: 0,
        };
        let bytes = 4 * (fact.len() + from.len()) as u64;
        let label = format!("exit, {}x{}", fact.width, fact.height);
        self.assembly.other(Launch::each(Kernel::Exit, fact.len(), exit), label, 0, bytes);
        Ok(())
    }
}
