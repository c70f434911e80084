//! One frame of the phantom at 1280x720 on one thread: must stay below 33 ms. `cargo bench --bench phantom`

// The macro that collects the benches makes a public function.
#![allow(missing_docs)]

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use polypscope::phantom::{Phantom, Preset, Settings, Truth};

fn frames(c: &mut Criterion) {
    let mut group = c.benchmark_group("phantom 1280x720, one thread");
    for preset in [Preset::Calm, Preset::Fast] {
        let settings = Settings { preset, frames: 600, ..Settings::default() };
        let mut rgb = vec![0; settings.width as usize * settings.height as usize * 3];
        let mut truth = Truth::new(settings.width, settings.height);
        let mut phantom = Phantom::new(settings).expect("settings are valid");
        let mut index = 0;
        group.bench_function(BenchmarkId::from_parameter(preset), |b| {
            b.iter(|| {
                // Frames of the whole clip, not one over and over: their cost differs.
                index = (index + 37) % 600;
                phantom.render(index, &mut rgb, &mut truth).expect("frame");
            });
        });
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(20);
    targets = frames
}
criterion_main!(benches);
