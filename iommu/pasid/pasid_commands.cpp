// SPDX-License-Identifier: Apache-2.0
#include "iommu/pasid/pasid_commands.hpp"

#include "vmm/base/bytes.hpp"

namespace inox::iommu {
namespace {

using namespace vcmd;

constexpr GuestPasid pasid_of(std::uint64_t command) {
    return GuestPasid{static_cast<std::uint32_t>(command >> pasid_shift & max_ioasid)};
}
constexpr EndpointId endpoint_of(std::uint64_t command) {
    return EndpointId{static_cast<std::uint32_t>(command >> endpoint_shift & 0xffff)};
}

constexpr Response response(PasidStatus status) {
    switch (status) {
    case PasidStatus::ok:
        return Response::success;
    case PasidStatus::exhausted:
    case PasidStatus::unknown_pasid:
        return Response::no_pasid;
    case PasidStatus::unknown_endpoint:
        return Response::unknown_endpoint;
    case PasidStatus::invalid:
        return Response::invalid;
    case PasidStatus::bound:
        return Response::bound;
    case PasidStatus::unbound:
        return Response::unbound;
    case PasidStatus::failed:
        break;
    }
    return Response::failed;
}

constexpr std::uint64_t word(Response status, GuestPasid result = {}) {
    return std::uint64_t{static_cast<std::uint8_t>(status)} << status_shift | std::uint64_t{result.raw()}
                                                                                  << result_shift;
}

std::uint64_t allocate(std::uint64_t command, PasidService& service) {
    const auto wanted = pasid_of(command);
    GuestPasid pasid;
    const auto status = service.alloc(pasid, wanted.raw() != 0 ? std::optional{wanted} : std::nullopt);
    return word(response(status), status == PasidStatus::ok ? pasid : GuestPasid{});
}

Response bind(std::uint64_t command, std::uint64_t operand, PasidService& service) {
    if ((command & bind_reserved) != 0)
        return Response::invalid;
    const PageTable table{.root = operand,
                          .five_levels = (command & flag_five_levels) != 0,
                          .privileged = (command & flag_privileged) != 0,
                          .write_protect = (command & flag_write_protect) != 0,
                          .execute_disable = (command & flag_execute_disable) != 0};
    return response(service.bind(endpoint_of(command), pasid_of(command), table));
}

Response invalidate(std::uint64_t command, std::uint64_t operand, PasidService& service) {
    std::optional<Range<Iova>> range;
    if ((operand & range_given) != 0) {
        const auto order = operand >> range_order_shift & 0x3f;
        const std::uint64_t start = operand & ~(page_size - 1);
        if ((operand & range_reserved) != 0 || order > 52)
            return Response::invalid;
        const std::uint64_t size_minus_one = order == 52 ? ~std::uint64_t{0} : (page_size << order) - 1;
        if ((start & size_minus_one) != 0)
            return Response::invalid;
        range = Range<Iova>::closed(Iova{start}, Iova{start | size_minus_one});
    } else if (operand != 0) {
        return Response::invalid;
    }
    if ((command & unbind_reserved) != 0)
        return Response::invalid;
    return response(service.invalidate(endpoint_of(command), pasid_of(command), range));
}

} // namespace

std::uint64_t execute_virtual_command(std::uint64_t command, std::uint64_t operand, PasidService& service) {
    switch (static_cast<Command>(command & 0xff)) {
    case Command::null:
        return word(Response::success);
    case Command::allocate:
        return allocate(command, service);
    case Command::free:
        return word(response(service.free(pasid_of(command))));
    case Command::bind:
        return word(bind(command, operand, service));
    case Command::unbind:
        if ((command & unbind_reserved) != 0)
            return word(Response::invalid);
        return word(response(service.unbind(endpoint_of(command), pasid_of(command))));
    case Command::invalidate:
        return word(invalidate(command, operand, service));
    }
    return word(Response::undefined);
}

} // namespace inox::iommu
