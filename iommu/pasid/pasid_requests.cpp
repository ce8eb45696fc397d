// SPDX-License-Identifier: Apache-2.0
#include "iommu/pasid/pasid_requests.hpp"

#include <cstring>

namespace inox::iommu {
namespace {

Status status_of(PasidStatus status) {
    switch (status) {
    case PasidStatus::ok:
        return Status::ok;
    case PasidStatus::exhausted:
        return Status::no_memory;
    case PasidStatus::unknown_pasid:
    case PasidStatus::unknown_endpoint:
    case PasidStatus::unbound:
        return Status::no_entry;
    case PasidStatus::invalid:
    case PasidStatus::bound:
        return Status::invalid;
    case PasidStatus::failed:
        break;
    }
    return Status::device_error;
}

/// nullopt when the length is wrong or reserved bytes are not zero.
template <class T> std::optional<T> decode(std::span<const std::byte> bytes) {
    T request;
    if (bytes.size() != sizeof request)
        return std::nullopt;
    std::memcpy(&request, bytes.data(), sizeof request);
    if (request.head.reserved != std::array<std::uint8_t, 3>{})
        return std::nullopt;
    return request;
}

} // namespace

std::optional<std::size_t> PasidRequests::answer_size(std::uint8_t type) const noexcept {
    if (type == static_cast<std::uint8_t>(wire::PasidType::alloc))
        return sizeof(wire::PasidAllocAnswer);
    if (type > static_cast<std::uint8_t>(wire::PasidType::alloc) &&
        type <= static_cast<std::uint8_t>(wire::PasidType::invalidate))
        return 0;
    return std::nullopt;
}

Status PasidRequests::execute(std::uint8_t type, std::span<const std::byte> bytes,
                              std::span<std::byte> answer) noexcept {
    const auto run = [&]<class T>(std::optional<T> request) { return request ? handle(*request) : Status::invalid; };
    switch (static_cast<wire::PasidType>(type)) {
    case wire::PasidType::alloc: {
        const auto request = decode<wire::PasidAlloc>(bytes);
        return request ? handle(*request, answer) : Status::invalid;
    }
    case wire::PasidType::free:
        return run(decode<wire::PasidFree>(bytes));
    case wire::PasidType::bind:
        return run(decode<wire::PasidBind>(bytes));
    case wire::PasidType::unbind:
        return run(decode<wire::PasidUnbind>(bytes));
    case wire::PasidType::invalidate:
        return run(decode<wire::PasidInvalidate>(bytes));
    }
    return Status::unsupported;
}

Status PasidRequests::handle(const wire::PasidAlloc& request, std::span<std::byte> answer) {
    GuestPasid pasid;
    const auto wanted = request.wanted != 0 ? std::optional{GuestPasid{request.wanted}} : std::nullopt;
    const auto status = service_.alloc(pasid, wanted, PasidWay::requests);
    if (status != PasidStatus::ok)
        return status_of(status);
    const wire::PasidAllocAnswer body{pasid.raw()};
    std::memcpy(answer.data(), &body, sizeof body);
    return Status::ok;
}

Status PasidRequests::handle(const wire::PasidFree& request) {
    return status_of(service_.free(GuestPasid{request.pasid}));
}

Status PasidRequests::handle(const wire::PasidBind& request) {
    using wire::PasidBind;
    const std::uint32_t flags = request.flags;
    if ((flags & ~(PasidBind::five_levels | PasidBind::privileged | PasidBind::write_protect |
                   PasidBind::execute_disable)) != 0)
        return Status::invalid;
    const PageTable table{.root = request.table,
                          .five_levels = (flags & PasidBind::five_levels) != 0,
                          .privileged = (flags & PasidBind::privileged) != 0,
                          .write_protect = (flags & PasidBind::write_protect) != 0,
                          .execute_disable = (flags & PasidBind::execute_disable) != 0};
    return status_of(service_.bind(EndpointId{request.endpoint}, GuestPasid{request.pasid}, table));
}

Status PasidRequests::handle(const wire::PasidUnbind& request) {
    if (request.reserved != 0)
        return Status::invalid;
    return status_of(service_.unbind(EndpointId{request.endpoint}, GuestPasid{request.pasid}));
}

Status PasidRequests::handle(const wire::PasidInvalidate& request) {
    std::optional<Range<Iova>> range;
    if (request.flags == wire::PasidInvalidate::range) {
        range = Range<Iova>::closed(Iova{request.start}, Iova{request.last});
        if (!range)
            return Status::range;
    } else if (request.flags != 0) {
        return Status::invalid;
    }
    return status_of(service_.invalidate(EndpointId{request.endpoint}, GuestPasid{request.pasid}, range));
}

} // namespace inox::iommu
