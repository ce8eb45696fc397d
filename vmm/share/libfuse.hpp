// SPDX-License-Identifier: Apache-2.0
// libfuse's low-level interface, at the version that has custom input and output.
#pragma once

#define FUSE_USE_VERSION 313
#include <fuse3/fuse_lowlevel.h>
