// All kernels of the engine in one module.
#include "clock.h"
#include "conv.h"
#include "maps.h"
#include "picture.h"
#include "training.h"
