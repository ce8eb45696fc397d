// SPDX-License-Identifier: Apache-2.0
// The device that Instance::balloon() gives, for callers that ask it for more than its target.
#pragma once

#include "devices/virtio/balloon.hpp" // IWYU pragma: export
