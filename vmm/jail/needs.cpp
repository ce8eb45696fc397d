// SPDX-License-Identifier: Apache-2.0
#include "vmm/jail/needs.hpp"

#include <filesystem>
#include <sys/stat.h>

#include "devices/vfio/pci_address.hpp"
#include "devices/virtio/fs_options.hpp"
#include "devices/virtio/net/options.hpp"
#include "vmm/base/descriptors.hpp"
#include "vmm/base/host_files.hpp"
#include "vmm/config/config_text.hpp"

namespace inox::jail {
namespace {

mode_t kind_of_file(const std::string& path) {
    struct stat status {};
    return ::stat(path.c_str(), &status) == 0 ? status.st_mode & S_IFMT : 0;
}

/// These come with the jail, or name descriptors that stay open.
bool comes_along(const std::string& path) {
    for (const auto folder : descriptors::folders)
        if (path.starts_with(folder))
            return true;
    return path == "-" || path == "/dev/null" || path == "/dev/stdout" || path == "/dev/stderr" || path == "/dev/stdin";
}

class Collector {
public:
    explicit Collector(std::string folder) : folder_{std::move(folder)} {}

    void collect(const ConfigFile& file, const std::string& config_path) {
        needs_.devices = {"/dev/kvm", "/dev/userfaultfd"};
        for (const auto* path : {&config_path, &file.config.boot.kernel, &file.config.boot.initrd, &file.run.symbols})
            show(*path, false);
        if (file.config.root)
            root(*file.config.root);
        if (file.config.command)
            for (const auto& variable : file.config.command->environment)
                if (variable.find('=') == variable.npos)
                    needs_.environment.push_back(variable);
        for (const auto& device : file.config.devices)
            std::visit([this](const auto& options) { device_needs(options); }, device);
        for (const auto& [used, where] : used_paths(file.config))
            use(used);
        for (const auto* path : {&file.log.path, &file.serial.path, &file.run.serial_log, &file.run.boot_timeline,
                                 &file.run.result, &file.run.exits, &file.run.dump_on_panic})
            output(*path);
        if (file.metrics)
            output(file.metrics->path);
        socket(file.api.socket);
        if (file.run.gdb)
            socket(file.run.gdb->socket);
        if (!file.api.group.empty())
            for (const char* names : {"/etc/group", "/etc/passwd", "/etc/nsswitch.conf"})
                show(names, false);
        for (const auto& allowed : file.allow)
            allow(allowed);
        if (needs_.libraries)
            libraries();
    }

    [[nodiscard]] Needs take() { return std::move(needs_); }

private:
    [[nodiscard]] std::string whole(const std::string& path) const { return path_below(folder_, path); }

    void show(const std::string& path, bool writable) {
        if (path.empty() || comes_along(path))
            return;
        const auto kind = kind_of_file(whole(path));
        if (kind == S_IFBLK || (kind == S_IFCHR && !path.starts_with("/dev/pts/")))
            needs_.devices.push_back(whole(path));
        else
            needs_.binds.push_back({whole(path), writable});
    }

    /// A file is made beside its place and renamed, so that its folder must be there; what exists as a pipe, a terminal
    /// or a device is used as it is.
    void output(const std::string& path) {
        if (path.empty() || comes_along(path))
            return;
        const auto kind = kind_of_file(whole(path));
        if (kind != 0 && kind != S_IFREG && kind != S_IFDIR)
            show(path, true);
        else
            show(std::filesystem::path{whole(path)}.parent_path(), true);
    }

    void socket(const std::string& path) {
        if (path.empty())
            return;
        show(std::filesystem::path{whole(path)}.parent_path(), true);
        needs_.sockets.push_back(whole(path));
    }

    /// The whole root stands for what is in the jail anyway.
    void allow(const AllowedPath& allowed) {
        const auto path = whole(allowed.path);
        if (path == "/")
            return;
        if (path.starts_with("/dev/vfio"))
            sysfs();
        if (!path.starts_with("/dev/") || kind_of_file(path) != S_IFDIR)
            return show(path, !allowed.read_only);
        std::error_code error; // the jail's /dev has device files of its own
        for (const auto& one : std::filesystem::recursive_directory_iterator{path, error})
            if (kind_of_file(one.path()) != S_IFDIR)
                show(one.path(), !allowed.read_only);
    }

    /// What says which devices there are.
    void sysfs() {
        for (const char* path : {"/sys/bus", "/sys/devices", "/sys/kernel/iommu_groups", "/sys/class", "/sys/module"})
            show(path, false);
    }

    void root(const RootConfig& root) {
        show(root.path, root.writable);
        show(root.modules, false);
        show("/lib/modules", false);
    }

    void use(const UsedPath& used) {
        const std::string path{used.path};
        if (used.use == UsedPath::Use::socket)
            socket(path);
        else if (used.use == UsedPath::Use::output)
            output(path);
    }

    void device_needs(const DriveConfig& drive) {
        show(drive.block.path, !drive.block.read_only && !drive.block.temporary);
    }
    void device_needs(const devices::virtio::NetOptions& net) {
        show(net.socket, true);
        if (!net.tap.empty())
            needs_.devices.emplace_back("/dev/net/tun");
        needs_.libraries = needs_.libraries || net.user;
    }
    void device_needs(const devices::virtio::FsOptions& share) {
        show(share.socket, true);
        show(share.path, !share.read_only);
    }
    void device_needs(const DsaConfig& dsa) { show(dsa.forward, true); }
    void device_needs(const VfioConfig& device) {
        needs_.locks_memory = true;
        sysfs();
        needs_.devices.emplace_back("/dev/vfio/vfio");
        needs_.devices.emplace_back("/dev/iommu");
        const auto address = devices::vfio::check_options(device.open);
        if (!address)
            return; // it is said later
        const auto directory = "/sys/bus/pci/devices/" + address->text();
        if (const auto group = host::link_name(directory + "/iommu_group"); !group.empty())
            for (const char* start : {"/dev/vfio/", "/dev/vfio/noiommu-"})
                needs_.devices.push_back(start + group);
        for (const auto& name : host::list(directory + "/vfio-dev"))
            needs_.devices.push_back("/dev/vfio/devices/" + name);
    }
    void device_needs(const auto& /*nothing*/) {}

    void libraries() {
        for (const char* path : {"/usr", "/bin", "/lib", "/lib64", "/etc/ld.so.cache", "/etc/resolv.conf",
                                 "/run/systemd/resolve/resolv.conf"})
            show(path, false);
    }

    std::string folder_;
    Needs needs_{};
};

} // namespace

Result<Needs> needs_of(const ConfigFile& file, const std::string& config_path, const std::string& folder) {
    Collector collector{folder};
    collector.collect(file, config_path);
    return collector.take();
}

} // namespace inox::jail
