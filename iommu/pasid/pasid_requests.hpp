// SPDX-License-Identifier: Apache-2.0
// The virtual command interface as requests on virtio-iommu's queue, for guests that have no use for registers.
// docs/guest-abi.md tells the guest.
#pragma once

#include "iommu/pasid/pasid_service.hpp"
#include "iommu/request.hpp"

namespace inox::iommu {

namespace wire {
enum class PasidType : std::uint8_t {
    alloc = first_private_type,
    free,
    bind,
    unbind,
    invalidate,
};
struct PasidAlloc {
    Head head{};
    Le32 wanted{}; ///< 0 for any
};
struct PasidAllocAnswer {
    Le32 pasid{};
};
struct PasidFree {
    Head head{};
    Le32 pasid{};
};
struct PasidBind {
    static constexpr std::uint32_t five_levels = 1;
    static constexpr std::uint32_t privileged = 2;
    static constexpr std::uint32_t write_protect = 4;
    static constexpr std::uint32_t execute_disable = 8;

    Head head{};
    Le32 endpoint{};
    Le32 pasid{};
    Le32 flags{};
    Le64 table{};
};
struct PasidUnbind {
    Head head{};
    Le32 endpoint{};
    Le32 pasid{};
    Le32 reserved{};
};
struct PasidInvalidate {
    static constexpr std::uint32_t range = 1; ///< else everything

    Head head{};
    Le32 endpoint{};
    Le32 pasid{};
    Le32 flags{};
    Le64 start{};
    Le64 last{};
};
static_assert(sizeof(PasidAlloc) == 8 && sizeof(PasidFree) == 8 && sizeof(PasidBind) == 24 &&
              sizeof(PasidUnbind) == 16 && sizeof(PasidInvalidate) == 32);
} // namespace wire

/// Called as RequestExtension says.
class PasidRequests final : public RequestExtension {
public:
    /// `service` must outlive it.
    explicit PasidRequests(PasidService& service) : service_{service} {}

    [[nodiscard]] std::optional<std::size_t> answer_size(std::uint8_t type) const noexcept override;
    Status execute(std::uint8_t type, std::span<const std::byte> request,
                   std::span<std::byte> answer) noexcept override;
    /// Frees what was allocated this way.
    void reset() noexcept override { service_.reset_requests(); }

private:
    Status handle(const wire::PasidAlloc& request, std::span<std::byte> answer);
    Status handle(const wire::PasidFree& request);
    Status handle(const wire::PasidBind& request);
    Status handle(const wire::PasidUnbind& request);
    Status handle(const wire::PasidInvalidate& request);

    PasidService& service_;
};

} // namespace inox::iommu
