// SPDX-License-Identifier: Apache-2.0
// What tests of the rules for the core's participants share.
#pragma once

#include <chrono>
#include <optional>
#include <thread>
#include <utility>

#include "tests/fakes/ioasid_actors.hpp"
#include "tests/fakes/pasid_guest.hpp"

/// For `using namespace`.
namespace inox::fakes::ioasid_roles {

using namespace ioasid_words;
using fakes::PasidGuest;
using iommu::PasidStatus;

inline constexpr auto endpoint = PasidGuest::endpoint;
inline constexpr iommu::PageTable some_table{.root = 0x100000};

inline unsigned held(PasidGuest& guest, HostPasid host, IoasidHolder holder) {
    const auto info = guest.core.info(host);
    return info ? info->references[static_cast<unsigned>(holder)] : 0;
}

/// A device with one context register for a PASID, cleaned by its worker.
class Device final : public iommu::IoasidNotifier {
public:
    explicit Device(PasidGuest& guest) : service_{*guest.service} {
        registration_ = *service_.core().add_notifier(service_.set(), IoasidPriority::device, *this);
    }
    /// The guest writes the register.
    bool program(GuestPasid pasid) {
        const auto host = service_.acquire(pasid);
        if (host)
            context = *host;
        return host.has_value();
    }
    void work() {
        if (!std::exchange(dirty, false))
            return;
        const HostPasid old = std::exchange(context, HostPasid{});
        service_.release(old);
    }
    void on_ioasid(const Event& event, iommu::IoasidContext&) noexcept override {
        dirty = dirty || (event.change == Event::Change::free && event.id == context);
    }
    HostPasid context{};
    bool dirty{false};

private:
    iommu::PasidService& service_;
    Registration registration_{};
};

/// Runs `command` on a thread and waits until `seen`; `held` is let go after that.
template <class Command, class Seen>
void while_in_flight(PasidGuest& guest, GuestPasid pasid, Command command, Seen seen) {
    auto submission = std::optional{guest.service->submit(pasid)};
    REQUIRE(submission->has_value());
    std::thread thread{command};
    while (guest.service->table().translate(pasid))
        std::this_thread::yield();
    std::this_thread::sleep_for(std::chrono::milliseconds{5});
    seen();
    submission.reset();
    thread.join();
}

} // namespace inox::fakes::ioasid_roles
