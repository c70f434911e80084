// The kernels for the processor that plays the device: a library that tests load.
#include "kernels.cu"

extern "C" void emulator_order(int backwards) { emulator::device().backwards = backwards != 0; }

// Sizes of what is passed by value, in params.rs's order.
extern "C" int params_size(int which) {
    const int sizes[] = {
        sizeof(ConvGroup), sizeof(SubtractGroup), sizeof(Join), sizeof(Pool), sizeof(Enter), sizeof(Last),
        sizeof(Exit), sizeof(Rows), sizeof(Columns), sizeof(Mark), sizeof(Statistics), sizeof(TrainEach),
        sizeof(TrainBias), sizeof(TrainChannels), sizeof(TrainSums), sizeof(TrainNorm), sizeof(TrainApply),
        sizeof(TrainPool), sizeof(TrainResize), sizeof(TrainPlanes), sizeof(TrainBox), sizeof(TrainUnit),
        sizeof(TrainConv),
    };
    return which >= 0 && which < (int)(sizeof sizes / sizeof *sizes) ? sizes[which] : -1;
}
