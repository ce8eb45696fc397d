// SPDX-License-Identifier: Apache-2.0
#include "iommu/request.hpp"

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <linux/virtio_iommu.h>

#include "iommu/reserved.hpp"

namespace inox::iommu {
namespace {

// NOLINTBEGIN(cppcoreguidelines-macro-usage): a layout is compared field by field
#define SAME(ours, our_field, theirs, their_field)                                                                     \
    static_assert(offsetof(ours, our_field) == offsetof(theirs, their_field) &&                                        \
                  sizeof(ours::our_field) == sizeof(theirs::their_field))
// NOLINTEND(cppcoreguidelines-macro-usage)
SAME(wire::Config, page_size_mask, virtio_iommu_config, page_size_mask);
SAME(wire::Config, input_start, virtio_iommu_config, input_range.start);
SAME(wire::Config, input_last, virtio_iommu_config, input_range.end);
SAME(wire::Config, domain_first, virtio_iommu_config, domain_range.start);
SAME(wire::Config, domain_last, virtio_iommu_config, domain_range.end);
SAME(wire::Config, probe_size, virtio_iommu_config, probe_size);
SAME(wire::Config, bypass, virtio_iommu_config, bypass);
SAME(wire::Attach, domain, virtio_iommu_req_attach, domain);
SAME(wire::Attach, endpoint, virtio_iommu_req_attach, endpoint);
SAME(wire::Attach, flags, virtio_iommu_req_attach, flags);
SAME(wire::Attach, reserved, virtio_iommu_req_attach, reserved);
SAME(wire::Detach, domain, virtio_iommu_req_detach, domain);
SAME(wire::Detach, endpoint, virtio_iommu_req_detach, endpoint);
SAME(wire::Detach, reserved, virtio_iommu_req_detach, reserved);
SAME(wire::Map, domain, virtio_iommu_req_map, domain);
SAME(wire::Map, virt_start, virtio_iommu_req_map, virt_start);
SAME(wire::Map, virt_last, virtio_iommu_req_map, virt_end);
SAME(wire::Map, phys_start, virtio_iommu_req_map, phys_start);
SAME(wire::Map, flags, virtio_iommu_req_map, flags);
SAME(wire::Unmap, domain, virtio_iommu_req_unmap, domain);
SAME(wire::Unmap, virt_start, virtio_iommu_req_unmap, virt_start);
SAME(wire::Unmap, virt_last, virtio_iommu_req_unmap, virt_end);
SAME(wire::Unmap, reserved, virtio_iommu_req_unmap, reserved);
SAME(wire::Probe, endpoint, virtio_iommu_req_probe, endpoint);
SAME(wire::Probe, reserved, virtio_iommu_req_probe, reserved);
SAME(wire::ReservedMemory, subtype, virtio_iommu_probe_resv_mem, subtype);
SAME(wire::ReservedMemory, start, virtio_iommu_probe_resv_mem, start);
SAME(wire::ReservedMemory, last, virtio_iommu_probe_resv_mem, end);
SAME(wire::FaultRecord, reason, virtio_iommu_fault, reason);
SAME(wire::FaultRecord, flags, virtio_iommu_fault, flags);
SAME(wire::FaultRecord, endpoint, virtio_iommu_fault, endpoint);
SAME(wire::FaultRecord, address, virtio_iommu_fault, address);
#undef SAME
static_assert(sizeof(wire::Config) == sizeof(virtio_iommu_config));
static_assert(sizeof(wire::Attach) == offsetof(virtio_iommu_req_attach, tail));
static_assert(sizeof(wire::Detach) == offsetof(virtio_iommu_req_detach, tail));
static_assert(sizeof(wire::Map) == offsetof(virtio_iommu_req_map, tail));
static_assert(sizeof(wire::Unmap) == offsetof(virtio_iommu_req_unmap, tail));
static_assert(sizeof(wire::Probe) == offsetof(virtio_iommu_req_probe, properties));
static_assert(sizeof(wire::ReservedMemory) == sizeof(virtio_iommu_probe_resv_mem));
static_assert(sizeof(wire::FaultRecord) == sizeof(virtio_iommu_fault));
static_assert(sizeof(wire::Tail) == sizeof(virtio_iommu_req_tail));
static_assert(max_reserved_regions * sizeof(wire::ReservedMemory) <= wire::probe_size);
static_assert(wire::feature::input_range == 1U << VIRTIO_IOMMU_F_INPUT_RANGE &&
              wire::feature::domain_range == 1U << VIRTIO_IOMMU_F_DOMAIN_RANGE &&
              wire::feature::map_unmap == 1U << VIRTIO_IOMMU_F_MAP_UNMAP &&
              wire::feature::probe == 1U << VIRTIO_IOMMU_F_PROBE && wire::feature::mmio == 1U << VIRTIO_IOMMU_F_MMIO &&
              wire::feature::bypass_config == 1U << VIRTIO_IOMMU_F_BYPASS_CONFIG);
static_assert(wire::map_read == VIRTIO_IOMMU_MAP_F_READ && wire::map_write == VIRTIO_IOMMU_MAP_F_WRITE &&
              wire::map_mmio == VIRTIO_IOMMU_MAP_F_MMIO && wire::attach_bypass == VIRTIO_IOMMU_ATTACH_F_BYPASS);
static_assert(static_cast<int>(Status::no_memory) == VIRTIO_IOMMU_S_NOMEM &&
              static_cast<int>(Status::fault) == VIRTIO_IOMMU_S_FAULT &&
              static_cast<int>(Status::invalid) == VIRTIO_IOMMU_S_INVAL);

template <GuestPod T> std::optional<Request> exactly(std::span<const std::byte> bytes) {
    if (bytes.size() != sizeof(T))
        return std::nullopt;
    T value;
    std::memcpy(&value, bytes.data(), sizeof value);
    return value;
}

template <GuestPod T> void put(std::span<std::byte> out, std::size_t at, const T& value) {
    std::memcpy(out.data() + at, &value, sizeof value);
}

bool has(std::uint64_t features, std::uint64_t bit) { return (features & bit) != 0; }

} // namespace

std::optional<Request> decode(std::span<const std::byte> bytes) {
    if (bytes.empty())
        return std::nullopt;
    switch (static_cast<wire::Type>(bytes[0])) {
    case wire::Type::attach:
        return exactly<wire::Attach>(bytes);
    case wire::Type::detach:
        return exactly<wire::Detach>(bytes);
    case wire::Type::map:
        return exactly<wire::Map>(bytes);
    case wire::Type::unmap:
        return exactly<wire::Unmap>(bytes);
    case wire::Type::probe:
        return exactly<wire::Probe>(bytes);
    }
    return std::nullopt;
}

Status execute(const Request& request, Domains& domains, std::uint64_t features, DmaDrain* drain) {
    struct Visitor {
        Domains& domains;
        std::uint64_t features;
        DmaDrain* drain;
        Status operator()(const wire::Attach& r) const {
            const std::uint32_t known = has(features, wire::feature::bypass_config) ? wire::attach_bypass : 0;
            if (r.reserved != 0 || (r.flags & ~known) != 0)
                return Status::invalid;
            return domains.attach(DomainId{r.domain}, EndpointId{r.endpoint}, (r.flags & wire::attach_bypass) != 0,
                                  drain);
        }
        Status operator()(const wire::Detach& r) const {
            return domains.detach(DomainId{r.domain}, EndpointId{r.endpoint}, drain); // reserved bytes are ignored
        }
        Status operator()(const wire::Map& r) const {
            return domains.map(DomainId{r.domain}, Iova{r.virt_start}, Iova{r.virt_last}, Gpa{r.phys_start}, r.flags);
        }
        Status operator()(const wire::Unmap& r) const {
            if (r.reserved != 0)
                return Status::invalid;
            return domains.unmap(DomainId{r.domain}, Iova{r.virt_start}, Iova{r.virt_last}, drain);
        }
        Status operator()(const wire::Probe& r) const {
            std::vector<ReservedRegion> ignored;
            return domains.probe(EndpointId{r.endpoint}, ignored);
        }
    };
    return std::visit(Visitor{domains, features, drain}, request);
}

bool encode_properties(std::span<const ReservedRegion> regions, std::span<std::byte> out) {
    std::ranges::fill(out, std::byte{0});
    if (regions.size() * sizeof(wire::ReservedMemory) > out.size())
        return false;
    for (std::size_t i = 0; i < regions.size(); ++i) {
        wire::ReservedMemory property;
        property.subtype = regions[i].kind == ReservedKind::msi ? wire::ReservedMemory::subtype_msi
                                                                : wire::ReservedMemory::subtype_reserved;
        property.start = regions[i].range.start().raw();
        property.last = regions[i].range.last().raw();
        put(out, i * sizeof property, property);
    }
    return true;
}

/// nullopt for a type that the driver cannot know.
std::optional<std::size_t> Requests::answer_size(std::uint8_t type, std::uint64_t features) const noexcept {
    switch (static_cast<wire::Type>(type)) {
    case wire::Type::attach:
    case wire::Type::detach:
        return 0;
    case wire::Type::map:
    case wire::Type::unmap:
        return has(features, wire::feature::map_unmap) ? std::optional<std::size_t>{0} : std::nullopt;
    case wire::Type::probe:
        return has(features, wire::feature::probe) ? std::optional<std::size_t>{wire::probe_size} : std::nullopt;
    }
    if (type >= wire::first_private_type && extension_ && has(features, wire::feature::private_requests))
        return extension_->answer_size(type);
    return std::nullopt;
}

std::span<const std::byte> Requests::handle(std::span<const std::byte> request, std::uint64_t writable,
                                            std::uint64_t features, Answer& answer, DmaDrain* drain) noexcept {
    constexpr std::size_t tail_size = sizeof(wire::Tail);
    const std::uint8_t type = request.empty() ? 0 : std::to_integer<std::uint8_t>(request[0]);
    const auto size = answer_size(type, features);
    if (!size || *size > max_answer || writable < tail_size) {
        unknown_.fetch_add(1, std::memory_order_relaxed);
        return {};
    }
    // If the room is too small for the answer, the status is still written at the end of it.
    const bool fits = writable >= *size + tail_size;
    const std::size_t body = fits ? *size : static_cast<std::size_t>(writable) - tail_size;
    const auto properties = std::span{answer}.first(body);
    std::ranges::fill(properties, std::byte{0});
    const Status status = fits ? execute(request, features, properties, drain) : Status::invalid;
    put(answer, body, wire::Tail{static_cast<std::uint8_t>(status), {}});
    types_[type < types_.size() ? type : 0].fetch_add(1, std::memory_order_relaxed);
    statuses_[static_cast<std::size_t>(status)].fetch_add(1, std::memory_order_relaxed);
    return std::span{answer}.first(body + tail_size);
}

Status Requests::execute(std::span<const std::byte> bytes, std::uint64_t features, std::span<std::byte> answer,
                         DmaDrain* drain) noexcept {
    if (bytes.size() > max_request)
        return Status::invalid;
    const std::uint8_t type = std::to_integer<std::uint8_t>(bytes[0]);
    if (type >= wire::first_private_type)
        return bytes.size() < sizeof(wire::Head) ? Status::invalid : extension_->execute(type, bytes, answer);
    const auto request = decode(bytes);
    if (!request)
        return Status::invalid;
    if (const auto* probe = std::get_if<wire::Probe>(&*request)) {
        std::vector<ReservedRegion> regions;
        const Status status = domains_.probe(EndpointId{probe->endpoint}, regions);
        return status == Status::ok && !encode_properties(regions, answer) ? Status::invalid : status;
    }
    return iommu::execute(*request, domains_, features, drain);
}

void Requests::reset(DmaDrain* drain) noexcept {
    domains_.reset(drain);
    if (extension_)
        extension_->reset();
}

Requests::Counts Requests::counts() const {
    Counts out;
    for (std::size_t i = 0; i < types_.size(); ++i)
        out.types[i] = types_[i].load(std::memory_order_relaxed);
    for (std::size_t i = 0; i < statuses_.size(); ++i)
        out.statuses[i] = statuses_[i].load(std::memory_order_relaxed);
    out.unknown = unknown_.load(std::memory_order_relaxed);
    return out;
}

} // namespace inox::iommu
