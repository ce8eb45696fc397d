// SPDX-License-Identifier: Apache-2.0
// Host memory that the guest reaches without an exit, beside its RAM: BARs of assigned devices.
#pragma once

#include <cstddef>
#include <span>

#include "vmm/base/address.hpp"
#include "vmm/base/os.hpp"
#include "vmm/base/range.hpp"

namespace inox {

/// Thread-safe.
class GuestMappings {
public:
    GuestMappings() = default;
    GuestMappings(const GuestMappings&) = delete;
    GuestMappings& operator=(const GuestMappings&) = delete;
    virtual ~GuestMappings() = default;
    /// Makes host bytes appear at a guest-physical range; both page aligned and as long. Gone when the registration
    /// dies. `log_name` names the mapping in errors.
    virtual Result<Registration> map(Range<Gpa> range, std::span<std::byte> host, bool read_only,
                                     const char* log_name) = 0;
};

} // namespace inox
