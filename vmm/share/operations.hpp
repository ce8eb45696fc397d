// SPDX-License-Identifier: Apache-2.0
#pragma once

struct fuse_lowlevel_ops;

namespace inox::share {

/// What libfuse calls; the session's data is the Server.
const fuse_lowlevel_ops& operations();

} // namespace inox::share
