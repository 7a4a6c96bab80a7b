# SPDX-License-Identifier: Apache-2.0
"""Mesh primitives of the sample scene: every function makes one object in Blender's world (Z up, metres)."""

import math
from collections.abc import Callable, Sequence
from itertools import pairwise

import bmesh
import bpy
from mathutils import Matrix, Vector, noise

Point = Sequence[float]

# Edges sharper than this stay sharp when the rest of an object is shaded smooth.
SHARP_EDGE_RAD = math.radians(40)


def empty(name: str, location: Point = (0, 0, 0), parent: bpy.types.Object | None = None) -> bpy.types.Object:
    """A handle to move a group of objects by."""
    handle = bpy.data.objects.new(name, None)
    handle.location = location
    handle.parent = parent
    bpy.context.scene.collection.objects.link(handle)
    return handle


def object_from_bmesh(
    name: str,
    bm: bmesh.types.BMesh,
    material: bpy.types.Material,
    location: Point = (0, 0, 0),
    parent: bpy.types.Object | None = None,
    smooth: bool = True,
) -> bpy.types.Object:
    """Turn a bmesh into a linked, shaded object, and free the bmesh."""
    mesh = bpy.data.meshes.new(name)
    bm.to_mesh(mesh)
    bm.free()
    mesh.materials.append(material)
    if smooth:
        mesh.shade_smooth()
        mesh.set_sharp_from_angle(angle=SHARP_EDGE_RAD)
    thing = bpy.data.objects.new(name, mesh)
    thing.location = location
    thing.parent = parent
    bpy.context.scene.collection.objects.link(thing)
    return thing


def box(
    name: str,
    size: Point,
    material: bpy.types.Material,
    location: Point = (0, 0, 0),
    parent: bpy.types.Object | None = None,
    bevel: float = 0.02,
) -> bpy.types.Object:
    """A box of the given size [3] around `location`, its edges rounded by `bevel`."""
    bm = bmesh.new()
    bmesh.ops.create_cube(bm, size=1.0, matrix=Matrix.Diagonal((*size, 1.0)))
    if bevel:
        bmesh.ops.bevel(bm, geom=bm.edges[:], offset=min(bevel, min(size) / 3), segments=2, affect="EDGES")
    return object_from_bmesh(name, bm, material, location, parent)


def cylinder(
    name: str,
    radius: float,
    height: float,
    material: bpy.types.Material,
    location: Point = (0, 0, 0),
    parent: bpy.types.Object | None = None,
    axis: str = "Z",
    radius_top: float | None = None,
    segments: int = 32,
) -> bpy.types.Object:
    """A cylinder or cone centred on `location`; `axis` is the direction of its height."""
    turn = {"X": Matrix.Rotation(math.pi / 2, 4, "Y"), "Y": Matrix.Rotation(-math.pi / 2, 4, "X"), "Z": Matrix()}
    bm = bmesh.new()
    bmesh.ops.create_cone(
        bm,
        cap_ends=True,
        segments=segments,
        radius1=radius,
        radius2=radius if radius_top is None else radius_top,
        depth=height,
        matrix=turn[axis],
    )
    return object_from_bmesh(name, bm, material, location, parent)


def ball(
    name: str,
    radius: float,
    material: bpy.types.Material,
    location: Point = (0, 0, 0),
    parent: bpy.types.Object | None = None,
    squash: float = 1.0,
    lumps: float = 0.0,
    seed: int = 0,
    subdivisions: int = 4,
) -> bpy.types.Object:
    """A ball, flattened by `squash` along Z; `lumps` pushes its surface in and out by that part of the radius."""
    bm = bmesh.new()
    bmesh.ops.create_icosphere(bm, subdivisions=subdivisions, radius=radius)
    for vertex in bm.verts:
        direction = vertex.co.normalized()
        if lumps:
            vertex.co += direction * radius * lumps * noise.noise(direction * 2.3 + Vector((seed * 7.1, 3.7, seed)))
        vertex.co.z *= squash
    return object_from_bmesh(name, bm, material, location, parent)


def revolved(
    name: str,
    profile: Sequence[tuple[float, float]],
    material: bpy.types.Material,
    location: Point = (0, 0, 0),
    parent: bpy.types.Object | None = None,
    segments: int = 48,
) -> bpy.types.Object:
    """Turn a profile of (radius, height) pairs around Z."""
    bm = bmesh.new()
    rings = [
        [
            bm.verts.new((r * math.cos(2 * math.pi * i / segments), r * math.sin(2 * math.pi * i / segments), z))
            for i in range(segments)
        ]
        for r, z in profile
    ]
    for low, high in pairwise(rings):
        for i in range(segments):
            j = (i + 1) % segments
            bm.faces.new((low[i], low[j], high[j], high[i]))
    return object_from_bmesh(name, bm, material, location, parent)


def gable_roof(
    name: str,
    size: Point,
    material: bpy.types.Material,
    location: Point = (0, 0, 0),
    parent: bpy.types.Object | None = None,
) -> bpy.types.Object:
    """A roof of size [3] standing on `location`, its ridge along X."""
    x, y, z = size[0] / 2, size[1] / 2, size[2]
    bm = bmesh.new()
    a, b, c, d = (bm.verts.new(p) for p in ((-x, -y, 0), (x, -y, 0), (x, y, 0), (-x, y, 0)))
    e, f = bm.verts.new((-x, 0, z)), bm.verts.new((x, 0, z))
    for corners in ((a, b, f, e), (c, d, e, f), (b, c, f), (d, a, e), (d, c, b, a)):
        bm.faces.new(corners)
    return object_from_bmesh(name, bm, material, location, parent, smooth=False)


def height_field(
    name: str,
    xs: Sequence[float],
    ys: Sequence[float],
    height: Callable[[float, float], float],
    material: bpy.types.Material,
) -> bpy.types.Object:
    """A surface z = height(x, y) over the grid of `xs` and `ys`."""
    vertices = [(x, y, height(x, y)) for y in ys for x in xs]
    columns = len(xs)
    faces = [
        (row * columns + i, row * columns + i + 1, (row + 1) * columns + i + 1, (row + 1) * columns + i)
        for row in range(len(ys) - 1)
        for i in range(columns - 1)
    ]
    mesh = bpy.data.meshes.new(name)
    mesh.from_pydata(vertices, [], faces)
    mesh.materials.append(material)
    mesh.shade_smooth()
    surface = bpy.data.objects.new(name, mesh)
    bpy.context.scene.collection.objects.link(surface)
    return surface


def copies_of(prototype: bpy.types.Object, name: str, location: Point, scale: float, turn_rad: float) -> None:
    """Place the same mesh once more."""
    copy = bpy.data.objects.new(name, prototype.data)
    copy.location, copy.scale, copy.rotation_euler = location, (scale,) * 3, (0, 0, turn_rad)
    bpy.context.scene.collection.objects.link(copy)
