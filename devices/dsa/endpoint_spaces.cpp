// SPDX-License-Identifier: Apache-2.0
#include "devices/dsa/endpoint_spaces.hpp"

namespace inox::devices::dsa {
namespace {

class Nothing final : public DmaMemory {
public:
    Hold hold() const override { return {}; }
    [[nodiscard]] std::uint64_t generation() const noexcept override { return 0; }
    [[nodiscard]] Translated do_translate(Range<Iova>, Access, std::vector<iovec>&,
                                          TranslationLimit&) const noexcept override {
        return Translated::fault;
    }
};

} // namespace

/// Holds the device's reference to the PASID.
class EndpointSpaces::View final : public Space {
public:
    View(iommu::PasidService& service, iommu::HostPasid host, std::shared_ptr<const DmaMemory> user,
         std::shared_ptr<const DmaMemory> supervisor)
        : service_{service}, host_{host}, user_{std::move(user)}, supervisor_{std::move(supervisor)} {}
    ~View() override { service_.release(host_); }
    [[nodiscard]] iommu::HostPasid pasid() const noexcept override { return host_; }
    [[nodiscard]] const DmaMemory& memory(bool privileged) const noexcept override {
        static const Nothing nothing;
        const auto& memory = privileged ? supervisor_ : user_;
        return memory ? *memory : nothing;
    }

private:
    iommu::PasidService& service_;
    iommu::HostPasid host_;
    std::shared_ptr<const DmaMemory> user_;
    std::shared_ptr<const DmaMemory> supervisor_;
};

EndpointSpaces::EndpointSpaces(iommu::PasidService& service, std::function<void(iommu::HostPasid)> freed)
    : service_{service}, freed_{std::move(freed)} {}

EndpointSpaces::~EndpointSpaces() { detach(); }

Result<void> EndpointSpaces::attach(iommu::EndpointId endpoint, std::string name) {
    binding_ = TRY(service_.add_endpoint(endpoint, {.name = std::move(name)}));
    auto notifier = service_.core().add_notifier(service_.set(), iommu::IoasidPriority::device, *this);
    if (!notifier)
        return fail(Errc::internal, "the accelerator is subscribed to its guest's PASIDs already");
    notifier_ = std::move(*notifier);
    endpoint_ = endpoint;
    return {};
}

void EndpointSpaces::detach() noexcept {
    notifier_.reset();
    binding_.reset();
}

std::shared_ptr<Space> EndpointSpaces::open(iommu::GuestPasid pasid) noexcept {
    const auto host = service_.acquire(pasid);
    return host ? view(*host) : nullptr;
}

std::shared_ptr<Space> EndpointSpaces::open(iommu::HostPasid pasid) noexcept {
    return service_.acquire(pasid) ? view(pasid) : nullptr;
}

std::optional<iommu::GuestPasid> EndpointSpaces::guest_of(iommu::HostPasid pasid) noexcept {
    const auto info = service_.core().info(pasid);
    return info ? info->spid : std::nullopt;
}

/// Takes over the reference to the PASID.
std::shared_ptr<Space> EndpointSpaces::view(iommu::HostPasid host) noexcept {
    if (endpoint_)
        if (auto user = service_.memory(*endpoint_, host, false))
            return std::make_shared<View>(service_, host, std::move(user), service_.memory(*endpoint_, host, true));
    service_.release(host);
    return nullptr;
}

void EndpointSpaces::on_ioasid(const iommu::IoasidEvent& event, iommu::IoasidContext& context) noexcept {
    (void)context; // whoever holds a reference releases it
    if (event.change == iommu::IoasidEvent::Change::free)
        freed_(event.id);
}

} // namespace inox::devices::dsa
