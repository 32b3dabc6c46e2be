# A build for another architecture: cmake -DCMAKE_TOOLCHAIN_FILE=cmake/cross.cmake, with POINTSMAN_MACHINE (aarch64) and
# POINTSMAN_SYSROOT (scripts/sysroot.sh makes one) in the environment. scripts/package.sh does all of it.
set(CMAKE_SYSTEM_NAME Linux)
# cmake reads this file again for what it tries, without the environment that it was started with in later runs.
if(DEFINED ENV{POINTSMAN_MACHINE})
  set(POINTSMAN_MACHINE $ENV{POINTSMAN_MACHINE} CACHE STRING "As gcc names it")
  set(POINTSMAN_SYSROOT $ENV{POINTSMAN_SYSROOT} CACHE PATH "What is compiled and linked against")
endif()
set(CMAKE_TRY_COMPILE_PLATFORM_VARIABLES POINTSMAN_MACHINE POINTSMAN_SYSROOT)
set(CMAKE_SYSTEM_PROCESSOR ${POINTSMAN_MACHINE})
set(CMAKE_C_COMPILER ${POINTSMAN_MACHINE}-linux-gnu-gcc)
set(CMAKE_CXX_COMPILER ${POINTSMAN_MACHINE}-linux-gnu-g++)
# For tests that are built so; who only packages needs none.
set(CMAKE_CROSSCOMPILING_EMULATOR qemu-${POINTSMAN_MACHINE}-static -L ${POINTSMAN_SYSROOT})
set(CMAKE_SYSROOT ${POINTSMAN_SYSROOT})
set(CMAKE_FIND_ROOT_PATH ${POINTSMAN_SYSROOT})
set(CMAKE_FIND_ROOT_PATH_MODE_PROGRAM NEVER)
set(CMAKE_FIND_ROOT_PATH_MODE_LIBRARY ONLY)
set(CMAKE_FIND_ROOT_PATH_MODE_INCLUDE ONLY)
set(CMAKE_FIND_ROOT_PATH_MODE_PACKAGE ONLY)
set(ENV{PKG_CONFIG_SYSROOT_DIR} ${POINTSMAN_SYSROOT})
set(ENV{PKG_CONFIG_LIBDIR}
    ${POINTSMAN_SYSROOT}/usr/lib/${POINTSMAN_MACHINE}-linux-gnu/pkgconfig:${POINTSMAN_SYSROOT}/usr/share/pkgconfig)
