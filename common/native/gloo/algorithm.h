// c10d's header of ProcessGroupGloo includes Gloo's, which the wheel of PyTorch does not contain. It needs no more of
// them than these files declare: Gloo itself is inside libtorch_cpu.so, and nothing here is instantiated.
#pragma once
