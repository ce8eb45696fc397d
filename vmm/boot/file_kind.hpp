// SPDX-License-Identifier: Apache-2.0
// Recognises files people give as a kernel by mistake, so that the error can say what to do.
#pragma once

#include "vmm/boot/image.hpp"

namespace inox::boot {

struct FileKind {
    const char* name; ///< "a gzip archive"
    const char* hint;
};
/// Never fails: what it does not know it calls unknown.
FileKind file_kind(const Image& file);

} // namespace inox::boot
