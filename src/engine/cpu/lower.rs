//! A fused program becomes a plan: which steps, in which order, over which maps.
//!
//! In: a program and its schedule, a checkpoint, an instruction set. Out: a [`Plan`]. Waves and lifetimes are the
//! schedule's; borders, element types, packing and the cut into tasks are decided here and in [`super::assemble`]. No
//! network is known here.

use super::assemble::{Assembly, Finish, Source, has_winograd_form};
use super::conv::{Also, Factors, Out, Plane};
use super::input::{INPUT_CHANNELS, Input};
use super::kernel_set::Isa;
use super::maps::{Geometry, Map, View};
use super::output_conv::OutputConv;
use super::pack::{Affine, Layer, Part};
use super::plan::{Plan, Probe, Site, Step};
use super::pool::{Kind, Pool};
use super::quantise::{self, Format};
use super::resize::{Axis, Join};
use super::storage::Storage;
use super::subtract::{Subtract, Terms};
use super::upsample::Upsample;
use crate::model::Checkpoint;
use crate::program::schedule::Wishes;
use crate::program::{self, Form, FusedConv, Op, Program, Schedule, Value, Weights};
use crate::{Error, Result};

/// Channels that subtraction units and the last convolution handle come in whole vectors of every instruction set.
const WHOLE_VECTORS: usize = 16;

/// Lowers a program for one instruction set.
pub(crate) fn lower(
    program: &Program,
    checkpoint: &Checkpoint,
    isa: &'static Isa,
    threads: usize,
) -> Result<Plan> {
    let schedule = Schedule::new(program, Wishes::default())?;
    let activations = &checkpoint.description().activations;
    let formats = quantise::formats(program, &schedule, isa.storage, &|name| activations.get(name).copied());
    let maps = (0..schedule.storages.len()).map(|_| None).collect();
    let bordered = bordered(&schedule);
    let mut lowering = Lowering {
        program,
        checkpoint,
        schedule: &schedule,
        assembly: Assembly::new(isa, threads),
        maps,
        bordered,
        formats,
    };
    for wave in 0..schedule.waves.len() {
        lowering.wave(wave)?;
    }
    Ok(lowering.assembly.finish())
}

/// Whether each storage has a border of zeros: where a reader wants one, and where another storage of the same size has
/// one, so that the two can share memory.
fn bordered(schedule: &Schedule) -> Vec<bool> {
    let size = |s: &program::Storage| (s.form, s.height, s.width, s.channels());
    schedule
        .storages
        .iter()
        .map(|s| schedule.storages.iter().any(|other| other.border && size(other) == size(s)))
        .collect()
}

/// A storage in use.
enum Place {
    Map(Map),
    Plane(Plane, Map),
}

struct Lowering<'a> {
    program: &'a Program,
    checkpoint: &'a Checkpoint,
    schedule: &'a Schedule,
    assembly: Assembly,
    /// By storage, from its first wave to its last.
    maps: Vec<Option<Place>>,
    bordered: Vec<bool>,
    /// By value.
    formats: Vec<Format>,
}

impl Lowering<'_> {
    fn wave(&mut self, wave: usize) -> Result<()> {
        let (program, schedule) = (self.program, self.schedule);
        for (i, storage) in schedule.storages.iter().enumerate() {
            // The logits are the caller's.
            if storage.waves.0 == wave && schedule.place(program.output())?.storage != i {
                let storage_type = self.storage_of(i);
                self.maps[i] = Some(self.take(storage, self.bordered[i], storage_type));
            }
        }
        for &node in &schedule.waves[wave] {
            let node = &program.nodes()[node];
            self.assembly.group = node.part;
            self.assembly.rounding = node.rounding;
            self.node(&node.op)?;
            for value in node.op.writes() {
                if let Some(site) = self.site(value)? {
                    self.assembly.probes.push(Probe { wave, value, site, scale: self.scale(value) });
                }
            }
        }
        for (i, storage) in schedule.storages.iter().enumerate() {
            // What the last wave reads stays as it is until the next frame: `output1` is looked at between frames.
            if storage.waves.1 == wave && wave + 1 < schedule.waves.len() {
                match self.maps[i].take() {
                    Some(Place::Map(map) | Place::Plane(_, map)) => self.assembly.maps.give_back(map),
                    None => {}
                }
            }
        }
        self.assembly.wave();
        Ok(())
    }

    /// What one step of a value's storage is worth.
    fn scale(&self, value: Value) -> f32 {
        self.formats[value.index()].scale
    }

    /// The storage type of the values that lie in a storage: there is one.
    fn storage_of(&self, index: usize) -> Storage {
        let lies = |v: &Value| self.schedule.placement(*v).is_some_and(|p| p.storage == index);
        self.program.values().find(lies).map_or(Storage::F32, |v| self.formats[v.index()].storage)
    }

    fn take(&mut self, storage: &program::Storage, border: bool, stored: Storage) -> Place {
        let (height, width, channels) = (storage.height, storage.width, storage.channels());
        if storage.form == Form::Planes {
            // Plane behind plane.
            let geometry =
                Geometry { height: height * channels, width, channels: 1, border: 0, storage: Storage::F32 };
            let map = self.assembly.maps.take(geometry);
            return Place::Plane(Plane { start: map.view().at::<f32>(0, 0), width }, map);
        }
        let border = usize::from(border);
        Place::Map(match storage.input {
            true => self.assembly.maps.take(Geometry {
                height,
                width,
                channels: INPUT_CHANNELS,
                border,
                storage: Storage::F32,
            }),
            false => {
                // A pixel begins with a whole word; pieces of a concatenation come to whole words together.
                let channels = match storage.pieces.len() {
                    1 => channels.next_multiple_of(stored.per_word()),
                    _ => channels,
                };
                self.assembly.maps.take(Geometry { height, width, channels, border, storage: stored })
            }
        })
    }

    fn site(&self, value: Value) -> Result<Option<Site>> {
        let place = self.schedule.place(value)?;
        Ok(match &self.maps[place.storage] {
            Some(Place::Map(_)) => Some(Site::Map(self.view(value)?)),
            Some(Place::Plane(plane, _)) => Some(Site::Planes(*plane)),
            None => None,
        })
    }

    fn view(&self, value: Value) -> Result<View> {
        let place = self.schedule.place(value)?;
        match &self.maps[place.storage] {
            Some(Place::Map(map)) => {
                Ok(map.view().channel(self.schedule.storages[place.storage].before(place.piece)))
            }
            _ => Err(self.lost(value)),
        }
    }

    fn plane(&self, value: Value) -> Result<Plane> {
        match &self.maps[self.schedule.place(value)?.storage] {
            Some(Place::Plane(plane, _)) => Ok(*plane),
            _ => Err(self.lost(value)),
        }
    }

    fn lost(&self, value: Value) -> Error {
        Error::internal(format!(
            "{}: the schedule does not hold what is needed",
            self.program.fact(value).name
        ))
    }

    /// A convolution's source: a map, or some channels of one.
    fn source(&self, value: Value, stride: usize) -> Result<Source> {
        let at = self.schedule.place(value)?;
        let stored = match &self.maps[at.storage] {
            // With what its pixels are padded by.
            Some(Place::Map(map)) if self.schedule.storages[at.storage].pieces.len() == 1 => {
                map.geometry.channels
            }
            _ => self.program.fact(value).channels,
        };
        if !stored.is_multiple_of(self.formats[value.index()].storage.per_word()) {
            return Err(Error::internal(format!(
                "{}: its pixels do not begin with whole words",
                self.program.fact(value).name
            )));
        }
        Ok(Source { view: self.view(value)?, stored, stride })
    }

    fn node(&mut self, op: &Op) -> Result<()> {
        let step = match op {
            Op::Input { to } => {
                let (height, width) = self.program.fact(*to).size();
                Step::Input(Input { height, width, out: self.view(*to)? })
            }
            Op::Fused(conv) => return self.conv(conv),
            Op::Pool { of, kind, to, sum } => {
                let fact = self.program.fact(*to);
                Step::Pool(Pool {
                    kind: match kind {
                        program::Pool::Max3 => Kind::Max3,
                        program::Pool::Average3 { stride } => Kind::Average3 { stride: *stride },
                        program::Pool::Average2 => Kind::Average2,
                    },
                    height: fact.height,
                    width: fact.width,
                    channels: fact.channels,
                    source: self.view(*of)?,
                    out: self.view(*to)?,
                    sum: sum.map(|sum| self.plane(sum)).transpose()?,
                    factor: self.scale(*of) / self.scale(*to),
                    sum_factor: self.scale(*to),
                })
            }
            Op::Subtract { a, b, terms, to } => self.subtract(*a, *b, terms.as_ref(), *to)?,
            Op::ResizeAdd { coarse, fine, to } => {
                let (from, fact) = (self.program.fact(*coarse), self.program.fact(*to));
                self.whole_vectors(*to)?;
                Step::Join(Join {
                    height: fact.height,
                    width: fact.width,
                    channels: fact.channels,
                    coarse: self.view(*coarse)?,
                    vertical: Axis::new(from.height, fact.height),
                    horizontal: Axis::new(from.width, fact.width),
                    fine: self.view(*fine)?,
                    out: self.view(*to)?,
                    factors: [*coarse, *fine].map(|v| self.scale(v) / self.scale(*to)),
                })
            }
            Op::Logits { of, weights, to } => self.logits(*of, weights, *to)?,
            Op::Enlarge { of, to } => {
                let (from, fact) = (self.program.fact(*of), self.program.fact(*to));
                Step::Upsample(Upsample {
                    height: fact.height,
                    width: fact.width,
                    classes: fact.channels,
                    source: self.plane(*of)?,
                    source_height: from.height,
                    vertical: Axis::new(from.height, fact.height),
                    horizontal: Axis::new(from.width, fact.width),
                })
            }
            // Concatenations are in no wave, and the schedule refused everything else.
            _ => {
                return Err(Error::internal("the CPU engine has no kernel for an operation of this program"));
            }
        };
        self.assembly.steps.push(step);
        Ok(())
    }

    fn whole_vectors(&self, value: Value) -> Result<()> {
        let fact = self.program.fact(value);
        if fact.channels.is_multiple_of(WHOLE_VECTORS) {
            return Ok(());
        }
        Err(Error::internal(format!(
            "{}: the engine wants channels in multiples of {WHOLE_VECTORS} here",
            fact.name
        )))
    }

    fn conv(&mut self, conv: &FusedConv) -> Result<()> {
        let Some(result) = conv.outs.first().map(|o| o.to).or(conv.also.map(|(_, to)| to)) else {
            return Err(Error::internal("a convolution of the engine's program writes nothing"));
        };
        let integer = conv.sources.iter().all(|s| self.formats[s.of.index()].storage == Storage::U8);
        let mut sources = Vec::with_capacity(conv.sources.len());
        let mut layers = Vec::with_capacity(conv.sources.len());
        for (i, source) in conv.sources.iter().enumerate() {
            let mut layer = Layer::load(self.checkpoint, &source.weights)?;
            // The epilogue's scale is the last source's and would scale the ones before once more.
            if !integer && i > 0 && i + 1 == conv.sources.len() {
                layer.fold();
            }
            let from = self.source(source.of, source.stride)?;
            if integer && from.stored != layer.cin.next_multiple_of(Storage::U8.per_word()) {
                // Which weights lie in neighbouring words, and so may overflow together, is reckoned from the channels.
                let name = &self.program.fact(source.of).name;
                return Err(Error::internal(format!(
                    "{name}: its pixels have more words than its channels fill"
                )));
            }
            sources.push(from);
            layers.push(layer);
        }
        // What Winograd's algorithm may be used for keeps its weights finer.
        let two_words =
            integer && !sources.iter().zip(&layers).any(|(s, layer)| has_winograd_form(layer, s.stride));
        if integer {
            let scales = conv.sources.iter().map(|s| self.scale(s.of));
            let mut scaled: Vec<(&mut Layer, f32)> = layers.iter_mut().zip(scales).collect();
            quantise::layers(&mut scaled, two_words);
        }
        // From here on in steps of the result's scale.
        let unit = self.scale(result);
        if let Some(last) = layers.last_mut() {
            last.scale.iter_mut().for_each(|s| *s /= unit);
        }
        layers.iter_mut().flat_map(|l| &mut l.shift).for_each(|s| *s /= unit);
        let factors = Factors {
            residual: conv.residual.map_or(1.0, |v| self.scale(v) / unit),
            result: conv.also.map_or(1.0, |(_, to)| unit / self.scale(to)),
            add: conv.also.map_or(1.0, |(add, to)| self.scale(add) / self.scale(to)),
            sum: unit,
            integer,
            stored: !conv.outs.is_empty() && self.formats[result.index()].storage == Storage::U8,
            two_words,
        };
        let outs = conv.outs.iter().map(|out| {
            Ok(Out { channels: (out.channels.start, out.channels.end), view: self.view(out.to)? })
        });
        let finish = Finish {
            residual: conv.residual.map(|v| self.view(v)).transpose()?,
            relu: conv.relu,
            outs: outs.collect::<Result<_>>()?,
            also: match conv.also {
                Some((add, to)) => Some(Also { add: self.view(add)?, out: self.view(to)? }),
                None => None,
            },
            sum: conv.sum.map(|v| self.plane(v)).transpose()?,
            factors,
        };
        let parts: Vec<(Source, &Layer)> = sources.into_iter().zip(&layers).collect();
        self.assembly.conv(&parts, self.program.fact(result).size(), finish);
        Ok(())
    }

    fn subtract(&self, a: Value, b: Value, terms: Option<&program::Terms>, to: Value) -> Result<Step> {
        let (from, fact) = (self.program.fact(a), self.program.fact(to));
        self.whole_vectors(to)?;
        let terms = match terms {
            Some(terms) => {
                let unit = self.scale(to);
                let norm = |at: &String| -> Result<Affine> {
                    let mut norm = Affine::norm(self.checkpoint, at)?;
                    norm.scale.iter_mut().chain(&mut norm.shift).for_each(|v| *v /= unit);
                    Ok(norm)
                };
                let [three, five] = [norm(&terms.norms[0])?, norm(&terms.norms[1])?];
                Some(Terms {
                    alpha: [three.scale, five.scale],
                    beta: [three.shift, five.shift],
                    a_sum: self.plane(terms.sums[0])?,
                    b_sum: self.plane(terms.sums[1])?,
                })
            }
            None => None,
        };
        Ok(Step::Subtract(Subtract {
            height: fact.height,
            width: fact.width,
            channels: fact.channels,
            a: self.view(a)?,
            vertical: Axis::new(from.height, fact.height),
            horizontal: Axis::new(from.width, fact.width),
            same_size: from.size() == fact.size(),
            b: self.view(b)?,
            out: self.view(to)?,
            factor: self.scale(a) / self.scale(to),
            terms,
            band: (fact.height / (4 * self.assembly.threads)).clamp(1, 8),
        }))
    }

    fn logits(&mut self, of: Value, weights: &Weights, to: Value) -> Result<Step> {
        let fact = self.program.fact(to);
        self.whole_vectors(of)?;
        let source = self.source(of, 1)?;
        let layer = Layer::load(self.checkpoint, weights)?;
        let part = Part { layer: &layer, stored: source.stored, storage: source.view.storage() };
        let (classes, words) = (fact.channels, part.words());
        let packed = self.assembly.store.take::<u32>(classes * words);
        for class in 0..classes {
            for k in 0..words {
                // SAFETY: `packed` has `classes * words` places, which nothing else refers to yet.
                unsafe { *packed.add(class * words + k) = part.word(class, k) };
            }
        }
        self.assembly.macs += layer.macs() * (fact.height * fact.width) as u64;
        Ok(Step::OutputConv(OutputConv {
            height: fact.height,
            width: fact.width,
            source: source.view,
            words: words / 9,
            weights: packed,
            scale: layer.scale,
            bias: layer.shift,
            out: self.plane(to)?,
        }))
    }
}
