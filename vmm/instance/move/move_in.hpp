// SPDX-License-Identifier: Apache-2.0
// The side of a move that gets the guest.
#pragma once

#include <memory>
#include <optional>

#include "vmm/config/config_file.hpp"
#include "vmm/instance/move/channel.hpp"
#include "vmm/machine/machine.hpp"
#include "vmm/memory/guest_memory.hpp"
#include "vmm/snapshot/parts.hpp"

namespace inox {

/// Call these in order. What the other side does wrong is an error, and it is told why: host_error, timed_out,
/// snapshot_invalid. Memory stays flat whatever it sends.
class MoveIn {
public:
    explicit MoveIn(UniqueFd stream) : channel_{std::move(stream)} {}

    /// The guest that comes. Nobody vouches for it: check_names().
    struct Guest {
        Config config{};
        std::optional<MmdsConfig> mmds{};
    };
    Result<Guest> greet();
    /// Into memory that is all zero and as large as the guest's: the pages, and then the state.
    struct Whole {
        std::shared_ptr<const snapshot::Parts> parts;
        bool paused{false}; ///< by its operator
    };
    Result<Whole> receive(const GuestMemory& memory);
    /// The machine is made. When this succeeds the guest is ours, and the other side lets nobody run it.
    Result<void> take_over();
    /// It runs.
    void tell_running();
    /// Why it is not taken; best effort.
    void refuse(const Error& why);

private:
    Result<void> take_pages(const GuestMemory& memory, const move::Message& message);
    Result<void> take_zeros(const GuestMemory& memory, const move::Message& message);
    Result<std::span<std::byte>> place(const GuestMemory& memory, std::uint64_t first, std::uint64_t count);
    move::Channel channel_;
    std::uint64_t left_{0}; ///< pages that may still come
};

/// receive() into memory of its own; the guest runs only when take_over() has succeeded. `paused`: as in Whole.
Result<Restored> take_guest(std::shared_ptr<MoveIn> from, const Config& config, bool& paused);

} // namespace inox
