//! From layers to launches: memory, packed weights, groups of independent convolutions in one launch.
//!
//! In: [`Layer`]s, sources, and what becomes of results. Out: [`Planned`] launches in order, each convolution cut as
//! the device runs it fastest (measured here where the device has a clock; guessed otherwise).

use std::collections::HashMap;

use super::launch::{Device, Kernel, Launch, bytes_of};
use super::maps::{Map, Maps, View};
use super::pack::{Spread, pack};
use super::params::{Address, CONVS, Conv, ConvGroup, Part, Subtract, SubtractGroup, UNITS};
use super::tile::{ARRIVALS, Cut, PARTIAL_BYTES, Size, candidates};
use crate::Result;
use crate::engine::folded_conv::Layer;

/// Cuts of a launch that are timed.
const TRIALS: usize = 32;

/// A launch with what reports say of it.
#[derive(Clone, Debug)]
pub(crate) struct Planned {
    /// Part of the network.
    pub(crate) group: &'static str,
    /// What it does, for the list of the slowest: kernel, sizes, cut.
    pub(crate) label: String,
    /// Multiply-accumulates the mathematics asks for.
    pub(crate) macs: u64,
    /// Bytes that must move at least: operands once, results once.
    pub(crate) bytes: u64,
    pub(crate) launch: Launch,
}

/// What a convolution does with its result.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Finish {
    pub(crate) residual: Option<View>,
    pub(crate) out: Option<View>,
    /// From this channel on results go here instead.
    pub(crate) rest: Option<(usize, View)>,
    /// (addend, destination): `destination = addend + result`.
    pub(crate) also: Option<(View, View)>,
    /// Plane of sums over the channels.
    pub(crate) sum: Option<Address>,
}

/// A convolution's source.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Source {
    pub(crate) view: View,
    pub(crate) height: usize,
    pub(crate) width: usize,
    pub(crate) spread: Spread,
    pub(crate) stride: usize,
}

struct Job {
    conv: Conv,
    size: Size,
    macs: u64,
    bytes: u64,
}

/// A plan under construction.
pub(crate) struct Assembly<'d> {
    pub(crate) device: &'d mut dyn Device,
    pub(crate) maps: Maps,
    pub(crate) steps: Vec<Planned>,
    /// Part of the network under construction.
    pub(crate) group: &'static str,
    /// Bytes of parameters.
    pub(crate) parameters: usize,
    jobs: Vec<Job>,
    units: Vec<Subtract>,
    partial: Address,
    arrived: Address,
    known: HashMap<Vec<(usize, usize, usize, bool)>, Cut>,
}

impl<'d> Assembly<'d> {
    pub(crate) fn new(device: &'d mut dyn Device) -> Result<Self> {
        let partial = device.allocate(PARTIAL_BYTES)?;
        let arrived = device.allocate(ARRIVALS * 4)?;
        device.upload(arrived, &vec![0; ARRIVALS * 4])?;
        Ok(Self {
            device,
            maps: Maps::default(),
            steps: Vec::new(),
            group: "",
            parameters: 0,
            jobs: Vec::new(),
            units: Vec::new(),
            partial,
            arrived,
            known: HashMap::new(),
        })
    }

    pub(crate) fn map(&mut self, height: usize, width: usize, channels: usize) -> Result<Map> {
        self.maps.take(self.device, height, width, channels.next_multiple_of(8))
    }

    /// f32 planes.
    pub(crate) fn plane(&mut self, height: usize, width: usize, count: usize) -> Result<Address> {
        self.device.allocate(height * width * count * 4)
    }

    /// Values that stay.
    pub(crate) fn constant<T: Copy>(&mut self, values: &[T]) -> Result<Address> {
        let bytes = bytes_of(values);
        let at = self.device.allocate(bytes.len())?;
        self.device.upload(at, bytes)?;
        self.parameters += bytes.len();
        Ok(at)
    }

    /// A launch that is no convolution.
    pub(crate) fn other(&mut self, launch: Launch, label: String, macs: u64, bytes: u64) {
        self.steps.push(Planned { group: self.group, label, macs, bytes, launch });
    }

    /// A subtraction unit of the wave.
    pub(crate) fn unit(&mut self, unit: Subtract) {
        self.units.push(unit);
    }

    /// One convolution with ReLU over one or two sources, whose results are summed; part of the wave.
    pub(crate) fn conv(
        &mut self,
        parts: &[(Source, &Layer)],
        out: Spread,
        (height, width): (usize, usize),
        finish: Finish,
    ) -> Result<()> {
        let spreads: Vec<(&Layer, Spread)> = parts.iter().map(|(s, l)| (*l, s.spread)).collect();
        let packed = pack(&spreads, out);
        let mut conv = Conv {
            weights: self.constant(&packed.weights)?,
            scale: self.constant(&packed.scale)?,
            shift: self.constant(&packed.shift)?,
            split_at: i32::MAX,
            part_count: parts.len() as i32,
            height: height as i32,
            width: width as i32,
            channels: out.stored() as i32,
            ..Default::default()
        };
        let pixels = height * width;
        let mut bytes = packed.weights.len() as u64 * 2 + (pixels * out.stored() * 2) as u64;
        let mut macs = 0;
        for (i, (source, layer)) in parts.iter().enumerate() {
            conv.parts[i] = Part {
                source: source.view.address,
                pitch: source.view.pitch as i32,
                channels: source.spread.stored() as i32,
                height: source.height as i32,
                width: source.width as i32,
                kernel: layer.kernel as i32,
                stride: source.stride as i32,
                length: packed.lengths[i] as i32,
                unused: 0,
            };
            bytes += (source.height * source.width * source.spread.stored() * 2) as u64;
            macs += layer.macs() * pixels as u64;
        }
        let put = |view: Option<View>, address: &mut Address, pitch: &mut i32| {
            if let Some(view) = view {
                *address = view.address;
                *pitch = view.pitch as i32;
            }
        };
        put(finish.residual, &mut conv.residual, &mut conv.residual_pitch);
        put(finish.out, &mut conv.out, &mut conv.out_pitch);
        put(finish.rest.map(|r| r.1), &mut conv.rest, &mut conv.rest_pitch);
        put(finish.also.map(|a| a.0), &mut conv.add, &mut conv.add_pitch);
        put(finish.also.map(|a| a.1), &mut conv.also, &mut conv.also_pitch);
        if let Some((at, _)) = finish.rest {
            conv.split_at = at as i32;
        }
        conv.sum = finish.sum.unwrap_or(0);
        let length = packed.lengths.iter().sum();
        let size = Size { pixels, channels: out.stored(), length, whole: finish.sum.is_some() };
        self.jobs.push(Job { conv, size, macs, bytes });
        Ok(())
    }

    /// Ends a wave: what follows may read what was written so far.
    pub(crate) fn wave(&mut self) -> Result<()> {
        let units = std::mem::take(&mut self.units);
        for units in units.chunks(UNITS) {
            let mut group = SubtractGroup { count: units.len() as i32, ..Default::default() };
            let (mut blocks, mut bytes) = (0, 0);
            for (to, unit) in group.units.iter_mut().zip(units) {
                let across = (unit.width as usize).div_ceil(8);
                *to = Subtract { tiles_across: across as i32, first_block: blocks as i32, ..*unit };
                blocks += across * (unit.height as usize).div_ceil(8);
                let (fine, coarse) = (unit.height * unit.width, unit.a_height * unit.a_width);
                bytes += (2 * fine + coarse) as u64 * 128 + (fine + coarse) as u64 * 4;
            }
            let label = format!("subtract, {} units", units.len());
            self.other(Launch::new(Kernel::Subtract, blocks, group), label, 0, bytes);
        }
        let jobs = std::mem::take(&mut self.jobs);
        for jobs in jobs.chunks(CONVS) {
            self.launch_convs(jobs)?;
        }
        self.maps.settle();
        Ok(())
    }

    fn launch_convs(&mut self, jobs: &[Job]) -> Result<()> {
        let sizes: Vec<Size> = jobs.iter().map(|j| j.size).collect();
        let key: Vec<_> = sizes.iter().map(|s| (s.pixels, s.channels, s.length, s.whole)).collect();
        let cut = match self.known.get(&key) {
            Some(cut) => cut.clone(),
            None => {
                let mut cuts = candidates(&sizes, self.device.processors());
                cuts.truncate(TRIALS);
                let trials: Vec<Launch> = cuts.iter().map(|c| self.cut(jobs, &sizes, c)).collect();
                let best = match self.device.time(&trials)? {
                    Some(times) => {
                        (0..times.len()).min_by(|a, b| times[*a].total_cmp(&times[*b])).unwrap_or(0)
                    }
                    None => 0,
                };
                let cut = cuts.swap_remove(best);
                self.known.insert(key, cut.clone());
                cut
            }
        };
        let launch = self.cut(jobs, &sizes, &cut);
        let each: Vec<String> = jobs
            .iter()
            .zip(&cut.splits)
            .map(|(j, n)| {
                let p = &j.conv.parts[0];
                let split = if *n > 1 { format!(" /{n}") } else { String::new() };
                format!(
                    "{k}x{k} {}→{} {}x{}{split}",
                    p.channels,
                    j.conv.channels,
                    j.conv.width,
                    j.conv.height,
                    k = p.kernel
                )
            })
            .collect();
        self.steps.push(Planned {
            group: self.group,
            label: format!("{}: {}", cut.tile.shape().name, each.join(", ")),
            macs: jobs.iter().map(|j| j.macs).sum(),
            bytes: jobs.iter().map(|j| j.bytes).sum(),
            launch,
        });
        Ok(())
    }

    /// Reduction length of the wave's first convolution.
    #[cfg(test)]
    pub(crate) fn length_of_jobs(&self) -> usize {
        self.jobs[0].size.length
    }

    /// The wave's convolutions, cut as told.
    #[cfg(test)]
    pub(crate) fn cut_jobs(&self, sizes: &[Size], cut: &Cut) -> Launch {
        self.cut(&self.jobs, sizes, cut)
    }

    fn cut(&self, jobs: &[Job], sizes: &[Size], cut: &Cut) -> Launch {
        let shape = cut.tile.shape();
        let mut group = ConvGroup { count: jobs.len() as i32, ..Default::default() };
        let (mut blocks, mut unfinished, mut tiles_before) = (0, 0, 0);
        for (i, job) in jobs.iter().enumerate() {
            let (across, tiles) = cut.tiles(&sizes[i]);
            let splits = cut.splits[i];
            group.convs[i] = Conv {
                splits: splits as i32,
                tiles_across: across as i32,
                first_block: blocks as i32,
                partial: self.partial + 4 * unfinished as u64,
                arrived: self.arrived + 4 * tiles_before as u64,
                ..job.conv
            };
            blocks += tiles * splits;
            if splits > 1 {
                unfinished += tiles * splits * shape.rows * shape.columns;
                tiles_before += tiles;
            }
        }
        Launch::new(Kernel::Conv(cut.tile), blocks, group)
    }
}
