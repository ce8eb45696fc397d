// SPDX-License-Identifier: Apache-2.0
// virtio-iommu requests without a queue: bytes in, what happens to the domains, bytes out (virtio 1.3, 5.13.6).
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <variant>

#include "iommu/domains.hpp"
#include "iommu/wire.hpp"

namespace inox::iommu {

using Request = std::variant<wire::Attach, wire::Detach, wire::Map, wire::Unmap, wire::Probe>;
/// nullopt: no request of the standard, or not of its length.
std::optional<Request> decode(std::span<const std::byte> bytes);
/// Reserved fields and the rules of 5.13.6.3 to 5.13.6.7, but PROBE's answer. `features`: what the driver accepted;
/// `drain`: see Domains.
Status execute(const Request& request, Domains& domains, std::uint64_t features, DmaDrain* drain = nullptr);
/// PROBE's properties; zeros behind the last. False when there is no room.
bool encode_properties(std::span<const ReservedRegion> regions, std::span<std::byte> out);

/// Another part's request types, from wire::first_private_type up, for drivers that accepted
/// wire::feature::private_requests. Calls come with the device's lock held, one at a time; they must not wait for a
/// vCPU.
class RequestExtension {
public:
    RequestExtension() = default;
    RequestExtension(const RequestExtension&) = delete;
    RequestExtension& operator=(const RequestExtension&) = delete;
    virtual ~RequestExtension() = default;
    /// Bytes that the answer has before its tail, at most Requests::max_answer; nullopt: nobody knows this type.
    [[nodiscard]] virtual std::optional<std::size_t> answer_size(std::uint8_t type) const noexcept = 0;
    /// `request` is all that the driver sent, head included, at most Requests::max_request bytes; `answer` is zero and
    /// as long as answer_size() said.
    virtual Status execute(std::uint8_t type, std::span<const std::byte> request,
                           std::span<std::byte> answer) noexcept = 0;
    /// The driver reset the device; the domains are gone by now.
    virtual void reset() noexcept = 0;
};

/// One thread at a time, but for counts().
class Requests {
public:
    static constexpr std::size_t max_request = 256; ///< bytes the driver may send
    static constexpr std::size_t max_answer = wire::probe_size;
    using Answer = std::array<std::byte, max_answer + sizeof(wire::Tail)>;

    struct Counts {
        std::array<std::uint64_t, 6> types{};    ///< by wire::Type; [0] is private ones
        std::array<std::uint64_t, 9> statuses{}; ///< by Status
        std::uint64_t unknown{};                 ///< not answered: type unknown, or no room for a status
    };

    /// `extension` may be null; both must outlive it.
    Requests(Domains& domains, RequestExtension* extension) : domains_{domains}, extension_{extension} {}

    /// What to write at the start of the driver's `writable` bytes; empty: nothing, the used length is 0. The result is
    /// part of `answer`. `request` may be cut at max_request + 1 bytes. The answer holds once `drain` is done.
    std::span<const std::byte> handle(std::span<const std::byte> request, std::uint64_t writable,
                                      std::uint64_t features, Answer& answer, DmaDrain* drain = nullptr) noexcept;
    void reset(DmaDrain* drain = nullptr) noexcept;

    [[nodiscard]] Counts counts() const;
    [[nodiscard]] bool extended() const { return extension_ != nullptr; }

private:
    [[nodiscard]] std::optional<std::size_t> answer_size(std::uint8_t type, std::uint64_t features) const noexcept;
    Status execute(std::span<const std::byte> request, std::uint64_t features, std::span<std::byte> answer,
                   DmaDrain* drain) noexcept;

    Domains& domains_;
    RequestExtension* extension_;
    std::array<std::atomic<std::uint64_t>, 6> types_{};
    std::array<std::atomic<std::uint64_t>, 9> statuses_{};
    std::atomic<std::uint64_t> unknown_{0};
};

} // namespace inox::iommu
