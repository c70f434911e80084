//! H.264 whose pictures are coded as two fields each, as broadcast and some recorders do and no encoder here can: grey
//! fields of uncompressed blocks (I_PCM), 96x64, 25 frames a second, one key frame.

#[derive(Default)]
struct Bits(Vec<u8>, u32);

impl Bits {
    fn put(&mut self, count: u32, value: u32) {
        for i in (0..count).rev() {
            if self.1.is_multiple_of(8) {
                self.0.push(0);
            }
            let bit = (value >> i & 1) as u8;
            *self.0.last_mut().expect("just made") |= bit << (7 - self.1 % 8);
            self.1 += 1;
        }
    }

    /// Exponential Golomb.
    fn number(&mut self, value: u32) {
        let bits = 32 - (value + 1).leading_zeros();
        self.put(bits - 1, 0);
        self.put(bits, value + 1);
    }

    fn end(mut self, head: u8) -> Vec<u8> {
        self.put(1, 1);
        let mut out = vec![0, 0, 0, 1, head];
        let mut zeros = 0;
        for b in self.0 {
            if zeros >= 2 && b <= 3 {
                out.push(3);
                zeros = 0;
            }
            out.push(b);
            zeros = if b == 0 { zeros + 1 } else { 0 };
        }
        out
    }
}

fn parameters() -> Vec<u8> {
    let mut sps = Bits::default();
    sps.put(24, 77 << 16 | 30);
    // Identity, frame numbers of 4 bits, order of 8 bits, one reference.
    [0, 0, 0, 4, 1].into_iter().for_each(|n| sps.number(n));
    sps.put(1, 0);
    [5, 1].into_iter().for_each(|n| sps.number(n));
    // Fields, not adaptive; direct inference; no cropping; a rate follows.
    sps.put(5, 0b0_0101);
    sps.put(4, 0);
    sps.put(1, 1);
    sps.put(32, 1);
    sps.put(32, 50);
    sps.put(1, 1);
    sps.put(4, 0);
    let mut pps = Bits::default();
    [0, 0].into_iter().for_each(|n| pps.number(n));
    pps.put(2, 0);
    [0, 0, 0].into_iter().for_each(|n| pps.number(n));
    pps.put(3, 0);
    [0, 0, 0].into_iter().for_each(|n| pps.number(n));
    pps.put(3, 0);
    [sps.end(0x67), pps.end(0x68)].concat()
}

fn field(frame: u32, bottom: bool, grey: u8) -> Vec<u8> {
    let key = frame == 0 && !bottom;
    let mut slice = Bits::default();
    [0, 7, 0].into_iter().for_each(|n| slice.number(n));
    slice.put(4, frame % 16);
    slice.put(2, 2 | u32::from(bottom));
    if key {
        slice.number(0);
    }
    slice.put(8, (2 * frame + u32::from(bottom)) % 256);
    slice.put(if key { 2 } else { 1 }, 0);
    slice.number(0);
    for _ in 0..12 {
        slice.number(25);
        while !slice.1.is_multiple_of(8) {
            slice.put(1, 0);
        }
        (0..256).for_each(|_| slice.put(8, u32::from(grey)));
        (0..128).for_each(|_| slice.put(8, 128));
    }
    slice.end(if key { 0x65 } else { 0x61 })
}

/// A bare stream of so many pictures.
pub fn field_coded(frames: u32) -> Vec<u8> {
    let mut stream = parameters();
    for i in 0..frames {
        let grey = super::recordings::grey(i as usize);
        stream.extend(field(i, false, grey));
        stream.extend(field(i, true, grey));
    }
    stream
}
