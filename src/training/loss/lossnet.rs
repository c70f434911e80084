//! LossNet: a prediction and its mask look alike to a network that was trained on photographs.
//!
//! Both are repeated to three channels, normalised as ImageNet is, resized to 224x224 and shown to VGG-16; the loss is the
//! sum of the four stages' mean squared differences. The paper adds a tenth of it. The mask's maps are computed once a step
//! and carry no gradient. Pictures do not meet in VGG-16, so they are taken one by one and only one's maps are held.

use super::super::ops::convolution::Convolve;
use super::super::ops::resize;
use super::super::real::squares_about;
use super::super::tape::{Mode, Planes, Spare, Tape};
use super::vgg::Vgg;
use super::{Maps, probabilities, through_probabilities};

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

impl<T: Convolve> LossNet<T> {
    pub fn new(vgg: Vgg<T>) -> Self {
        Self { vgg, spare: Spare::default() }
    }

    /// The stages' losses, averaged over pictures and classes, and the gradient of their sum with respect to the logits.
    pub fn run(&mut self, maps: Maps, logits: &[T], labels: &[u8]) -> (StageLosses, Vec<T>) {
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
            self.picture(maps, p, &mask, share, of_p, &mut losses);
        }
        let mut grad = vec![T::ZERO; logits.len()];
        through_probabilities(maps, &p, &of_p, &mut grad);
        (losses, grad)
    }

    fn picture(
        &mut self,
        maps: Maps,
        p: &[T],
        mask: &[T],
        share: f64,
        of_p: &mut [T],
        losses: &mut StageLosses,
    ) {
        let planes = Planes { batch: 1, channels: 3, h: SIDE, w: SIDE };
        let input = |map: &[T]| {
            let mut small = vec![T::ZERO; SIDE * SIDE];
            resize::forward(map, (maps.h, maps.w), (SIDE, SIDE), None, &mut small);
            let mut out = Vec::with_capacity(3 * SIDE * SIDE);
            for (mean, std) in MEAN.iter().zip(STD) {
                out.extend(small.iter().map(|v| T::of((v.wide() - mean) / std)));
            }
            out
        };
        let wanted: [Vec<T>; 4] = {
            let mut tape = Tape::new(self.vgg.parameters(), Mode::Evaluation, &mut self.spare);
            let x = tape.input(planes, input(mask), false);
            let stages = self.vgg.stages(&mut tape, x);
            let wanted = stages.map(|s| tape.values(s).to_vec());
            tape.finish();
            wanted
        };
        let mut tape = Tape::new(self.vgg.parameters(), Mode::Training, &mut self.spare);
        let x = tape.input(planes, input(p), true);
        let stages = self.vgg.stages(&mut tape, x);
        let mut seeds = Vec::with_capacity(4);
        for ((stage, wanted), loss) in stages.iter().zip(wanted).zip(losses) {
            let got = tape.values(*stage);
            let apart: Vec<T> = got.iter().zip(&wanted).map(|(&g, &w)| g - w).collect();
            let count = apart.len() as f64;
            *loss += share * squares_about(&apart, T::ZERO) / count;
            let scale = T::of(2.0 * share / count);
            seeds.push((*stage, apart.into_iter().map(|v| v * scale).collect()));
        }
        let mut back = tape.backward_from(seeds);
        let grad = back.of(x).expect("the input is tracked");
        let mut small = vec![T::ZERO; SIDE * SIDE];
        for (plane, std) in grad.chunks_exact(SIDE * SIDE).zip(STD) {
            let by = T::of(1.0 / std);
            small.iter_mut().zip(plane).for_each(|(to, &g)| *to += g * by);
        }
        resize::backward(&small, (maps.h, maps.w), (SIDE, SIDE), of_p);
    }
}
