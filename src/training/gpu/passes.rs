//! A batch through the network and back, on a card.

use super::card::Card;
use super::memory::Arena;
use super::tape::{Room, Tape};
use crate::Result;
use crate::training::loader::Batch;
use crate::training::loss::{StageLosses, Vgg};
use crate::training::network::Network;
use crate::training::objective::Objective;
use crate::training::parameters::Parameters;
use crate::training::passes::{Passed, Passes, maps_of};
use crate::training::tape::{Mode, Planes};

/// See [`Passes`].
pub(super) struct OnCard {
    room: Room,
    /// The trained network's, once its parameters have been seen.
    arena: Option<Arena>,
    /// VGG-16's.
    vgg: Option<Arena>,
    last_size: (usize, usize),
}

impl OnCard {
    pub(super) fn new(card: Box<dyn Card>) -> Result<Self> {
        Ok(Self { room: Room::new(card)?, arena: None, vgg: None, last_size: (0, 0) })
    }
}

/// A step's passes on GPU `ordinal`, and the card's name.
///
/// # Errors
/// No driver, no such device, a card before Ampere, no cuDNN.
#[cfg(feature = "cuda")]
pub fn open(ordinal: usize) -> Result<(Box<dyn Passes<f32>>, String)> {
    let card = super::cudnn::Cudnn::open(ordinal)?;
    let name = card.describe();
    Ok((Box::new(OnCard::new(Box::new(card))?), name))
}

impl Passes<f32> for OnCard {
    fn run(
        &mut self,
        parameters: &Parameters<f32>,
        network: &Network,
        objective: &mut Objective<f32>,
        batch: &Batch,
        mode: Mode,
    ) -> Result<Passed<f32>> {
        let Self { room, arena, vgg, last_size } = self;
        if *last_size != batch.size {
            room.spare.clear(&mut *room.card)?;
            *last_size = batch.size;
        }
        let arena = match arena {
            Some(arena) => arena,
            none => none.insert(Arena::of(&mut *room.card, parameters, true)?),
        };
        arena.upload(&mut *room.card, parameters)?;
        let maps = maps_of(batch, network);
        let planes = Planes { batch: maps.batch, channels: 3, h: maps.h, w: maps.w };
        // LossNet needs the card while the network's maps wait on it.
        let mut tape = Tape::new(parameters, arena, mode, room);
        let x = tape.input(planes, &batch.planes, false);
        let logits = network.forward(&mut tape, x);
        let values = tape.values(logits)?;
        let statistics = tape.statistics()?;
        let (losses, grad) = objective.run_with(maps, &values, &batch.labels, &mut |net, shown, share| {
            compare(tape.room(), vgg, net, shown, share)
        })?;
        let grad = tape.upload(&grad);
        let back = tape.backward(vec![(logits, grad)])?;
        let gradients = arena.download(&mut *room.card, parameters, &back.touched)?;
        Ok(Passed { losses, gradients, statistics })
    }
}

/// A picture's stage losses and the gradient of what VGG-16 was shown of the prediction.
pub(super) fn compare(
    room: &mut Room,
    arena: &mut Option<Arena>,
    net: &Vgg<f32>,
    [predicted, wanted]: [Vec<f32>; 2],
    share: f64,
) -> Result<(StageLosses, Vec<f32>)> {
    let parameters = net.parameters();
    let arena = match arena {
        Some(arena) => arena,
        none => {
            let made = Arena::of(&mut *room.card, parameters, false)?;
            made.upload(&mut *room.card, parameters)?;
            none.insert(made)
        }
    };
    let side = (predicted.len() / 3).isqrt();
    let planes = Planes { batch: 1, channels: 3, h: side, w: side };
    let mut tape = Tape::new(parameters, arena, Mode::Evaluation, room);
    let x = tape.input(planes, &wanted, false);
    let stages = net.stages(&mut tape, x);
    let wanted = stages.map(|stage| tape.keep(stage));
    tape.finish()?;
    let mut tape = Tape::new(parameters, arena, Mode::Training, room);
    let x = tape.input(planes, &predicted, true);
    let stages = net.stages(&mut tape, x);
    let mut losses = StageLosses::default();
    let mut seeds = Vec::with_capacity(4);
    for ((stage, wanted), loss) in stages.into_iter().zip(wanted).zip(&mut losses) {
        let count = tape.len_of(stage) as f64;
        let squares = tape.apart(stage, wanted, (2.0 * share / count) as f32)?;
        *loss = share * squares / count;
        seeds.push((stage, wanted));
    }
    let mut back = tape.backward(seeds)?;
    Ok((losses, back.of(x).unwrap_or_default()))
}
