//! LossNet: a prediction and its mask look alike to a network that was trained on photographs.
//!
//! Both are repeated to three channels, normalised as ImageNet is, resized to 224x224 and shown to VGG-16; the loss is
//! the sum of the four stages' mean squared differences. The paper adds a tenth of it. The mask's maps are computed
//! once a step and carry no gradient. Pictures do not meet in VGG-16, so they are taken one by one and only one's maps
//! are held.

use super::super::ops::convolution::Convolve;
use super::super::ops::resize;
use super::super::real::squares_about;
use super::super::tape::{Mode, Planes, Spare, Tape};
use super::vgg::Vgg;
use super::{Maps, probabilities, through_probabilities};
use crate::Result;

/// What VGG-16 is shown, rows and columns.
const SIDE: usize = 224;

const MEAN: [f64; 3] = [0.485, 0.456, 0.406];
const STD: [f64; 3] = [0.229, 0.224, 0.225];

/// Mean squared difference of each stage.
pub type StageLosses = [f64; 4];

/// See the module.
pub struct LossNet<T: Convolve> {
    vgg: Vgg<T>,
    spare: Spare<T>,
}

/// Shows VGG-16 a prediction and its mask, `[3, 224, 224]` each: the stages' mean squared differences times a share,
/// and the gradient of their sum with respect to the prediction.
pub type Compare<'a, T> = dyn FnMut(&Vgg<T>, [Vec<T>; 2], f64) -> Result<(StageLosses, Vec<T>)> + 'a;

impl<T: Convolve> LossNet<T> {
    /// The loss by this VGG-16.
    pub fn new(vgg: Vgg<T>) -> Self {
        Self { vgg, spare: Spare::default() }
    }

    /// The stages' losses, averaged over pictures and classes, and the gradient of their sum with respect to the
    /// logits.
    pub fn run(&mut self, maps: Maps, logits: &[T], labels: &[u8]) -> (StageLosses, Vec<T>) {
        let Self { vgg, spare } = self;
        let done = pictures(vgg, maps, logits, labels, &mut |vgg, shown, share| {
            Ok(on_processor(vgg, spare, shown, share))
        });
        done.expect("a processor calculates to the end")
    }

    /// As [`LossNet::run`], with VGG-16 somewhere else.
    ///
    /// # Errors
    /// Whatever `compare` says.
    pub fn run_with(
        &self,
        maps: Maps,
        logits: &[T],
        labels: &[u8],
        compare: &mut Compare<'_, T>,
    ) -> Result<(StageLosses, Vec<T>)> {
        pictures(&self.vgg, maps, logits, labels, compare)
    }
}

fn pictures<T: Convolve>(
    vgg: &Vgg<T>,
    maps: Maps,
    logits: &[T],
    labels: &[u8],
    compare: &mut Compare<'_, T>,
) -> Result<(StageLosses, Vec<T>)> {
    let px = maps.px();
    let p = probabilities(maps, logits);
    let mut of_p = vec![T::ZERO; logits.len()];
    let mut losses = [0.0; 4];
    let share = 1.0 / (maps.batch * maps.classes) as f64;
    for (i, (of_p, p)) in of_p.chunks_exact_mut(px).zip(p.chunks_exact(px)).enumerate() {
        let class = i % maps.classes;
        let mask: Vec<T> = labels[i / maps.classes * px..][..px]
            .iter()
            .map(|&l| if usize::from(l) == class + 1 { T::ONE } else { T::ZERO })
            .collect();
        let (of, grad) = compare(vgg, [shown(maps, p), shown(maps, &mask)], share)?;
        losses.iter_mut().zip(of).for_each(|(to, l)| *to += l);
        let mut small = vec![T::ZERO; SIDE * SIDE];
        for (plane, std) in grad.chunks_exact(SIDE * SIDE).zip(STD) {
            let by = T::of(1.0 / std);
            small.iter_mut().zip(plane).for_each(|(to, &g)| *to += g * by);
        }
        resize::backward(&small, (maps.h, maps.w), (SIDE, SIDE), of_p);
    }
    let mut grad = vec![T::ZERO; logits.len()];
    through_probabilities(maps, &p, &of_p, &mut grad);
    Ok((losses, grad))
}

/// What VGG-16 sees of a map.
fn shown<T: Convolve>(maps: Maps, map: &[T]) -> Vec<T> {
    let mut small = vec![T::ZERO; SIDE * SIDE];
    resize::forward(map, (maps.h, maps.w), (SIDE, SIDE), None, &mut small);
    let mut out = Vec::with_capacity(3 * SIDE * SIDE);
    for (mean, std) in MEAN.iter().zip(STD) {
        out.extend(small.iter().map(|v| T::of((v.wide() - mean) / std)));
    }
    out
}

/// [`Compare`] on this machine's cores; any square will do.
pub(in crate::training) fn on_processor<T: Convolve>(
    vgg: &Vgg<T>,
    spare: &mut Spare<T>,
    [predicted, wanted]: [Vec<T>; 2],
    share: f64,
) -> (StageLosses, Vec<T>) {
    let side = (predicted.len() / 3).isqrt();
    let planes = Planes { batch: 1, channels: 3, h: side, w: side };
    let wanted: [Vec<T>; 4] = {
        let mut tape = Tape::new(vgg.parameters(), Mode::Evaluation, spare);
        let x = tape.input(planes, wanted, false);
        let stages = vgg.stages(&mut tape, x);
        let wanted = stages.map(|s| tape.values(s).to_vec());
        tape.finish();
        wanted
    };
    let mut tape = Tape::new(vgg.parameters(), Mode::Training, spare);
    let x = tape.input(planes, predicted, true);
    let stages = vgg.stages(&mut tape, x);
    let mut losses = [0.0; 4];
    let mut seeds = Vec::with_capacity(4);
    for ((stage, wanted), loss) in stages.iter().zip(wanted).zip(&mut losses) {
        let got = tape.values(*stage);
        let apart: Vec<T> = got.iter().zip(&wanted).map(|(&g, &w)| g - w).collect();
        let count = apart.len() as f64;
        *loss = share * squares_about(&apart, T::ZERO) / count;
        let scale = T::of(2.0 * share / count);
        seeds.push((*stage, apart.into_iter().map(|v| v * scale).collect()));
    }
    let mut back = tape.backward_from(seeds);
    (losses, back.of(x).expect("the input is tracked"))
}
