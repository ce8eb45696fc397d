// SPDX-License-Identifier: Apache-2.0
// Pins guest RAM for one address space beside the loop, in pieces, so that it can be stopped between them.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <stop_token>
#include <string>
#include <vector>

#include "devices/vfio/dma/pin_progress.hpp"
#include "vmm/base/address.hpp"
#include "vmm/base/error.hpp"
#include "vmm/base/range.hpp"

namespace inox::devices::vfio {

class AddressSpace;

/// Made and ended by Session. The address space outlives it, and nobody else changes it meanwhile.
class PinJob {
public:
    /// Pinning one takes about a tenth of a second where pages are small.
    static constexpr std::uint64_t usual_piece = std::uint64_t{256} << 20;
    struct Piece {
        Range<Iova> range;
        std::span<std::byte> host; ///< reserved in the address space
    };

    PinJob(AddressSpace& space, std::vector<Piece> pieces, std::string root, PinProgress::Report progress)
        : space_{space}, pieces_{std::move(pieces)}, root_{std::move(root)}, progress_{std::move(progress)} {}
    PinJob(const PinJob&) = delete;
    PinJob& operator=(const PinJob&) = delete;
    ~PinJob() = default;

    /// Pins all pieces. After an error, or when it is asked to stop, it unpins what it pinned.
    void run(const std::stop_token& stop);

private:
    friend class Session;
    [[nodiscard]] Result<void> pin(const std::stop_token& stop);

    AddressSpace& space_;
    std::vector<Piece> pieces_;
    std::string root_;
    PinProgress::Report progress_;
    bool check_available_{false}; ///< nothing is pinned yet: the host must have what is missing
    std::size_t pinned_{0};       ///< pieces
    std::optional<Result<void>> result_{};
};

} // namespace inox::devices::vfio
