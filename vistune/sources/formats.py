"""The annotation formats that are read, as a table."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from vistune.sources import (
    alpaca,
    aokvqa,
    cauldron,
    chartqa,
    coco,
    datumaro_formats,
    docvqa,
    flickr30k,
    gqa,
    imagenet,
    llava,
    lrv,
    lvis,
    m3it,
    ocrvqa,
    open_images,
    refcoco,
    scienceqa,
    sharegpt,
    svit,
    textvqa,
    visual_genome,
    vqa,
)
from vistune.sources.rows import Listing
from vistune.sources.spec import AnnotationFile


@dataclass(frozen=True)
class Format:
    """How annotation files of one format are read, and what `vistune sources --formats` says about it."""

    read: Callable[[Path, AnnotationFile, Listing], None]
    what: str
    fields: str
    annotations: str = ""  # what the second file (`annotations=`) is, for formats that come in two
    needs: bool = False  # ... and whether it must be given
    lists_images: bool = True  # False: it speaks about images that another file lists, so it is read after that
    word: bool = False  # `annotations=` is a word of the format, not a file


FORMATS: dict[str, Format] = {
    "coco_instances": Format(coco.read_instances, "COCO objects", "images, annotations[bbox], categories, licenses"),
    "coco_captions": Format(coco.read_captions, "COCO captions", "images, annotations[caption]"),
    "coco_panoptic": Format(
        coco.read_panoptic, "COCO panoptic", "images, annotations[segments_info[bbox, area]], categories[isthing]"
    ),
    "lvis": Format(
        lvis.read_instances,
        "LVIS",
        "images[coco_url, neg_category_ids, not_exhaustive_category_ids], annotations[bbox], categories[synonyms]",
    ),
    "refcoco": Format(
        refcoco.read_refs,
        "RefCOCO, RefCOCO+, RefCOCOg, beside their coco_instances",
        "[ann_id, image_id, split, sentences[sent]] (pickle)",
        lists_images=False,
    ),
    "flickr30k": Format(
        flickr30k.read_entities,
        "Flickr30k Entities",
        "folder of Sentences/*.txt, Annotations/*.xml, UNRELATED_CAPTIONS, train.txt, val.txt, test.txt",
    ),
    "vg_images": Format(visual_genome.read_images, "Visual Genome images", "[image_id, url, width, height]"),
    "vg_regions": Format(
        visual_genome.read_regions,
        "Visual Genome region descriptions",
        "[id, regions[region_id, phrase, x, y, width, height]]",
        lists_images=False,
    ),
    "vg_objects": Format(
        visual_genome.read_objects,
        "Visual Genome objects",
        "[image_id, objects[object_id, names, x, y, w, h]]",
        lists_images=False,
    ),
    "vg_attributes": Format(
        visual_genome.read_attributes,
        "Visual Genome attributes",
        "[image_id, attributes[object_id, names, attributes, x, y, w, h]]",
        lists_images=False,
    ),
    "vg_relations": Format(
        visual_genome.read_relations,
        "Visual Genome relationships",
        "[image_id, relationships[relationship_id, subject, predicate, object]]",
        lists_images=False,
    ),
    "vg_qa": Format(
        visual_genome.read_questions,
        "Visual Genome questions",
        "[id, qas[qa_id, question, answer]]",
        lists_images=False,
    ),
    "gqa_scene_graphs": Format(
        gqa.read_scene_graphs,
        "GQA scene graphs",
        "{image id: width, height, objects{id: name, attributes, relations, x, y, w, h}}",
    ),
    "gqa_questions": Format(
        gqa.read_questions,
        "GQA questions: a file or a folder of them",
        "{id: imageId, question, answer, fullAnswer, types}",
        lists_images=False,
    ),
    "open_images_boxes": Format(
        open_images.read_boxes,
        "Open Images boxes",
        "ImageID, LabelName, XMin, XMax, YMin, YMax, IsGroupOf, IsOccluded, IsTruncated, IsDepiction, IsInside (CSV)",
        annotations="class-descriptions CSV",
        needs=True,
    ),
    "open_images_labels": Format(
        open_images.read_labels,
        "Open Images verified labels",
        "ImageID, Source, LabelName, Confidence (CSV)",
        annotations="class-descriptions CSV",
        needs=True,
    ),
    "open_images_hierarchy": Format(
        open_images.read_hierarchy,
        "Open Images hierarchy: which boxes are complete",
        "LabelName, Subcategory (JSON)",
        annotations="class-descriptions CSV",
        needs=True,
        lists_images=False,
    ),
    "imagenet": Format(
        imagenet.read_folders,
        "ImageNet: one folder per synset",
        "folder of <synset>/<image>",
        annotations="names of synsets: n01440764 tench, Tinca tinca",
        needs=True,
    ),
    "vqa": Format(
        vqa.read_questions,
        "VQA v2, OK-VQA",
        "questions[question, image_id, question_id]",
        annotations="annotations[answers, multiple_choice_answer]",
        needs=True,
        lists_images=False,
    ),
    "aokvqa": Format(
        aokvqa.read_questions,
        "A-OKVQA",
        "[question, image_id, choices, correct_choice_idx, direct_answers, rationales]",
        lists_images=False,
    ),
    "textvqa": Format(
        textvqa.read_questions, "TextVQA questions", "data[question, image_id, answers]", lists_images=False
    ),
    "textcaps": Format(textvqa.read_captions, "TextCaps captions", "data[image_id, caption_str]", lists_images=False),
    "textvqa_ocr": Format(
        textvqa.read_ocr, "Rosetta OCR of TextVQA and TextCaps", "data[image_id, ocr_info[word, bounding_box]]"
    ),
    "ocrvqa": Format(ocrvqa.read_questions, "OCR-VQA", "id: [questions, answers, imageURL, split]"),
    "docvqa": Format(docvqa.read_questions, "DocVQA", "data[question, image, answers, question_types]"),
    "chartqa": Format(
        chartqa.read_charts,
        "ChartQA, folder of a split or one question file",
        "[imgname, query, label], tables/*.csv, annotations/*.json[type]",
        annotations="tables/, the folder of a question file's tables",
    ),
    "scienceqa": Format(
        scienceqa.read_problems,
        "ScienceQA",
        "id: [question, choices, answer, hint, image, lecture, solution, split]",
        annotations="pid_splits.json",
    ),
    "llava": Format(llava.read_llava, "LLaVA, LLaVA-NeXT, LLaVA-OneVision", "id, image, conversations[from, value]"),
    "sharegpt": Format(
        sharegpt.read_sharegpt,
        "ShareGPT; messages of TRL, transformers, OpenAI",
        "conversations[from, value] or messages[role, content], system, images",
    ),
    "alpaca": Format(alpaca.read_alpaca, "Alpaca with images", "instruction, input, output, system, history, images"),
    "m3it": Format(m3it.read_m3it, "M3IT", "instruction, inputs, outputs, image_base64_str"),
    "cauldron": Format(
        cauldron.read_cauldron, "The Cauldron, FineVision", "images[bytes, path], texts[user, assistant, source]"
    ),
    "lrv": Format(lrv.read_lrv, "LRV-Instruction", "image_id, question, answer, task", lists_images=False),
    "svit": Format(svit.read_svit, "SVIT", "image_id, conversations[content[from, value]]", lists_images=False),
    "datumaro": Format(
        datumaro_formats.read_folder,
        "VOC, YOLO, CVAT, LabelMe, KITTI, ... through datumaro",
        "objects, labels and captions of a folder",
        annotations="name of the format (voc, yolo, cvat, ...)",
        word=True,
    ),
}
